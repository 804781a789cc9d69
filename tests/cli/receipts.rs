//! `run --from`: pictures made again from their own settings.

use std::path::Path;

use flux_rt::files;
use flux_rt::pipeline::Metadata;
use flux_rt::pipeline::RgbImage;
use flux_rt::pipeline::image::decode_png;
use flux_rt::pipeline::image::encode_png;
use flux_rt::pipeline::metadata::JSON_KEYWORD;

use crate::Answer;
use crate::Desk;
use crate::SMALL;
use crate::data;
use crate::golden;
use crate::pictures::read;

/// Writes a picture whose settings are `json`, of 48 x 32 pixels.
pub(crate) fn picture(desk: &Desk, name: &str, json: &str) {
    let image = RgbImage { width: 48, height: 32, data: vec![7; 48 * 32 * 3] };
    desk.file(name, &encode_png(&image, &[(JSON_KEYWORD, json)]).unwrap());
}

/// Rewrites the settings of the picture `name` and leaves its pixels.
pub(crate) fn resay(desk: &Desk, name: &str, change: impl Fn(&mut serde_json::Value)) {
    let path = desk.path(name);
    let (image, texts) = decode_png(&files::map(&path).unwrap(), &path).unwrap();
    let json = &texts.iter().find(|(keyword, _)| keyword == JSON_KEYWORD).unwrap().1;
    let mut json = serde_json::from_str(json).unwrap();
    change(&mut json);
    let json = json.to_string();
    desk.file(name, &encode_png(&image, &[(JSON_KEYWORD, &json)]).unwrap());
}

/// `run --from` of a picture of the golden model `dev`.
pub(crate) fn again(desk: &Desk, picture: &str, args: &[&str]) -> Answer {
    let model = golden("dev");
    let start = ["run", "--from", picture, "--model", &*model.to_string_lossy()];
    desk.call(start.into_iter().chain(args.iter().copied()))
}

fn bytes(desk: &Desk, name: &str) -> Vec<u8> {
    files::map(&desk.path(name)).unwrap().to_vec()
}

/// The picture of `args` is made, and then made again from nothing but itself and the model: the same
/// file must come of it, and nothing is worth a note.
#[track_caller]
fn comes_back(desk: &Desk, model: &Path, args: &[&str], more: &[&str]) {
    let model = model.to_string_lossy();
    let run = |args: &[&str], out: &str| {
        let args = [&["run", "--model", &*model, "--overwrite", "--out", out], args].concat();
        desk.call(args)
    };
    run(args, "a.png").succeeds();
    let answer = run(&[&["--from", "a.png"], more].concat(), "b.png");
    answer.succeeds();
    let [first, second] = ["a.png", "b.png"].map(|name| read(desk, name).1);
    assert_eq!(second, first, "{args:?}");
    assert!(bytes(desk, "b.png") == bytes(desk, "a.png"), "{args:?}");
    assert!(!answer.stderr.contains("picture"), "{args:?}: {}", answer.stderr);
}

#[test]
fn every_setting_comes_back_in_the_same_bytes() {
    let desk = Desk::new();
    let toml = "preset = 'aggressive'\nlayout = 'split'\ncounting = 'streak'\nrounding = 'auto'\n\
                warmup = 1\nmax_continuous = -1\nmask = '1100'\n\
                [double]\nthreshold = 0.30000000000000004\n[single]\nreplay = [3]\nmax_cached = 2";
    desk.file("mine.toml", toml.as_bytes());
    for args in [
        vec!["--prompt", "a \"red\"\n狐 \u{1b}", "--seed", "18446744073709551615"],
        vec!["--prompt", "a fox", "--prompt-2", "of clay", "--guidance", "0.1"],
        vec!["--prompt", "", "--rng", "torch-cpu", "--seed", "42", "--max-sequence-length", "9"],
        vec!["--rng-grid", "1", "--dtype", "bf16", "--mode", "L"],
        vec!["--rng", "torch-cpu-legacy", "--dtype", "bf16", "--mode", "original"],
        vec!["--cache", "mine.toml"],
        vec!["--cache", "conservative", "--cache-fn", "1", "--cache-warmup", "1"],
    ] {
        let size = ["--width", "48", "--height", "32", "--steps", "4"];
        let args = [&size[..], &args].concat();
        comes_back(&desk, &golden("dev"), &args, &[]);
    }
    comes_back(&desk, &golden("schnell"), &["--width", "48", "--height", "32"], &[]);
}

#[test]
fn modes_caches_and_tiles_of_the_demo_model_come_back() {
    let desk = Desk::new();
    let demo = data::path("models/demo");
    let args = ["--prompt", "a red apple", "--mode", "S", "--cache", "aggressive", "--steps", "12"];
    comes_back(&desk, &demo, &[&args[..], &["--width", "64", "--height", "64"]].concat(), &[]);
    let settings = read(&desk, "b.png").1;
    assert_eq!((settings.mode.as_str(), settings.cache.as_str()), ("S", "aggressive"));
    assert!(settings.plan.is_some(), "the demo model has a plan of its own");
    let skipped = settings.cache_record.unwrap().lists["double"].cached_steps.len();
    assert!(skipped > 0, "the cache did something");
    let tiles = ["--width", "160", "--height", "128", "--steps", "1", "--vae-tiling"];
    comes_back(&desk, &demo, &tiles, &[]);
    assert!(read(&desk, "b.png").1.vae_tiling);
    resay(&desk, "a.png", |json| json["vae_tiling"] = false.into());
    let plain = ["run", "--from", "a.png", "--model", &*demo.to_string_lossy(), "--out", "c.png"];
    desk.call(plain).succeeds();
    assert_ne!(read(&desk, "c.png").0, read(&desk, "b.png").0, "tiles change pixels");
}

#[test]
fn t5_in_e4m3_comes_back() {
    let desk = Desk::new();
    let demo = data::path("models/demo").to_string_lossy().into_owned();
    let size = ["--width", "32", "--height", "32", "--steps", "2"];
    let args = ["run", "--model", &demo, "--prompt", "a red apple", "--out", "a.png"];
    desk.call(args.into_iter().chain(size)).succeeds();
    let plain = read(&desk, "a.png").0;
    resay(&desk, "a.png", |json| json["t5_dtype"] = "e4m3".into());
    for (from, out) in [("a.png", "b.png"), ("b.png", "c.png")] {
        desk.call(["run", "--model", &demo, "--from", from, "--out", out]).succeeds();
    }
    let (pixels, settings) = read(&desk, "b.png");
    assert_eq!(settings.t5_dtype.as_deref(), Some("e4m3"));
    assert_ne!(pixels, plain);
    assert_eq!(bytes(&desk, "c.png"), bytes(&desk, "b.png"));
}

#[test]
fn a_plan_comes_back_when_its_file_is_gone_or_another() {
    let desk = Desk::new();
    let plan = |precision: &str| {
        let double = format!(r#"[{{ "blocks": "0", "mlp_up": "{precision}" }}]"#);
        let text = format!(r#"{{ "version": 1, "name": "mine", "double": {double} }}"#);
        desk.file("mine.json", text.as_bytes());
    };
    plan("fp8");
    desk.small_run("dev", &["--prompt", "fox", "--mode", "mine.json", "--out", "a.png"]).succeeds();
    plan("bf16");
    again(&desk, "a.png", &["--out", "b.png"]).succeeds();
    assert_eq!(bytes(&desk, "b.png"), bytes(&desk, "a.png"), "the file is not read");
    std::fs::remove_file(desk.path("mine.json")).unwrap();
    again(&desk, "a.png", &["--out", "c.png"]).succeeds();
    assert_eq!(bytes(&desk, "c.png"), bytes(&desk, "a.png"), "the file is not needed");
}

#[test]
fn a_mode_is_what_the_picture_holds_not_what_the_model_has() {
    let desk = Desk::new();
    desk.small_run("dev", &["--prompt", "fox", "--out", "a.png"]).succeeds();
    resay(&desk, "a.png", |json| {
        json["mode"] = "S".into();
        json["plan"] = serde_json::json!({ "version": 1, "name": "S", "double": [], "single": [] });
    });
    again(&desk, "a.png", &["--out", "b.png"]).succeeds();
    let (pixels, settings) = read(&desk, "b.png");
    assert_eq!((settings.mode.as_str(), settings.plan.is_some()), ("S", true));
    assert_eq!(pixels, read(&desk, "a.png").0, "the plan of the picture is mode XL's");
    again(&desk, "a.png", &["--mode", "S", "--out", "c.png"]).succeeds();
    assert_ne!(read(&desk, "c.png").0, pixels, "the model's own mode S rounds");
}

#[test]
fn latents_come_back_from_the_file_that_is_named() {
    let desk = Desk::new();
    desk.small_run("dev", &["--prompt", "x", "--save-latents", "l.safetensors"]).succeeds();
    let args = ["--prompt", "x", "--latents", "l.safetensors"];
    let args = SMALL.into_iter().chain(args).collect::<Vec<_>>();
    comes_back(&desk, &golden("dev"), &args, &["--latents", "l.safetensors"]);
    // The file is there, and could be read.
    let answer = again(&desk, "a.png", &[]);
    answer.fails(2, &["--latents: ", "expected --latents l.safetensors, or wherever they lie now"]);
    std::fs::rename(desk.path("l.safetensors"), desk.path("m.safetensors")).unwrap();
    let answer = again(&desk, "a.png", &["--latents", "m.safetensors", "--out", "c.png"]);
    answer.succeeds();
    assert!(answer.stderr.contains("note: rng: l.safetensors in the picture, m.safetensors here"));
    assert_eq!(read(&desk, "c.png").0, read(&desk, "a.png").0);
    let answer = again(&desk, "a.png", &["--rng", "torch-cpu", "--out", "d.png"]);
    let note = "note: --rng torch-cpu instead of the picture's rng l.safetensors";
    assert!(answer.succeeds().stderr.contains(note), "{}", answer.stderr);
}

#[test]
fn what_is_given_beats_the_picture_and_is_named() {
    let desk = Desk::new();
    let all = ["--seed", "42", "--guidance", "2", "--prompt-2", "clay", "--cache", "aggressive"];
    desk.small_run("dev", &[&["--prompt", "a fox", "--out", "a.png"], &all[..]].concat())
        .succeeds();
    for (given, direct, notes) in [
        (
            vec!["--seed", "7", "--guidance", "2"],
            vec!["--seed", "7", "--guidance", "2", "--prompt-2", "clay", "--cache", "aggressive"],
            vec!["--seed 7 instead of the picture's seed 42"],
        ),
        (
            vec!["--cache-warmup", "1", "--cache-rounding", "f32", "--prompt-2", "wood"],
            [&all[..5], &["wood"], &all[6..], &["--cache-warmup", "1", "--cache-rounding", "f32"]]
                .concat(),
            vec![
                "--cache-rounding f32 --cache-warmup 1 instead of the picture's cache aggressive",
                "--prompt-2 wood instead of the picture's prompt_2 clay",
            ],
        ),
        (
            vec!["--cache", "none", "--mode", "m", "--steps", "1", "--dtype", "bf16"],
            [&all[..6], &["--mode", "m", "--steps", "1", "--dtype", "bf16"]].concat(),
            vec![
                "--cache none instead of the picture's cache aggressive",
                "--mode m instead of the picture's mode XL",
                "--steps 1 instead of the picture's steps 2",
                "--dtype bf16 instead of the picture's dtype f32",
            ],
        ),
        (
            vec!["--width", "32", "--rng-grid", "1", "--vae-tiling"],
            [&all[..], &["--width", "32", "--rng-grid", "1", "--vae-tiling"]].concat(),
            vec![
                "--width 32 instead of the picture's width 48",
                "--rng-grid 1 instead of the picture's rng_grid 1056",
                "--vae-tiling instead of the picture's vae_tiling false",
            ],
        ),
    ] {
        let answer = again(&desk, "a.png", &[&["--out", "b.png", "--overwrite"], &*given].concat());
        let stderr = &answer.succeeds().stderr;
        for note in &notes {
            assert!(stderr.contains(&format!("note: {note}\n")), "no `{note}` in: {stderr}");
        }
        assert_eq!(stderr.matches("note: ").count(), notes.len(), "{given:?}: {stderr}");
        // Of an option that is given twice, clap would take neither.
        let size = [("--width", "48"), ("--height", "32"), ("--steps", "2")];
        let size = size.into_iter().filter(|(flag, _)| !direct.contains(flag));
        let model = golden("dev").to_string_lossy().into_owned();
        let args = ["run", "--model", &model, "--prompt", "a fox", "--out", "c.png", "--overwrite"];
        let args = args.into_iter().chain(size.flat_map(|(flag, value)| [flag, value]));
        desk.call(args.chain(direct.iter().copied())).succeeds();
        assert_eq!(bytes(&desk, "b.png"), bytes(&desk, "c.png"), "{given:?}");
    }
}

#[test]
fn other_prompts_replace_both_texts_and_variables_count() {
    let desk = Desk::new();
    let args = ["--prompt", "a fox", "--prompt-2", "clay", "--seed", "3", "--out", "a.png"];
    desk.small_run("dev", &args).succeeds();
    let model = golden("dev");
    let args = ["run", "--from", "a.png", "--model", &*model.to_string_lossy(), "--json"];
    let mut command =
        desk.command(args.into_iter().chain(["--prompt", "a b", "c", "--count", "2"]));
    command.env("FLUX_RT_SEED", "5").env("FLUX_RT_STEPS", "2").env("FLUX_RT_GUIDANCE", "3.5");
    let answer = Answer::from(command.output().unwrap());
    let json = answer.succeeds().json();
    let pictures = json["pictures"].as_array().unwrap();
    let made = |picture: &serde_json::Value| {
        let text = picture["prompt"].as_str().unwrap().to_owned();
        (text, picture["prompt_2"].is_null(), picture["seed"].as_u64().unwrap())
    };
    let made: Vec<_> = pictures.iter().map(made).collect();
    let expected = [("a b", 5), ("a b", 6), ("c", 5), ("c", 6)];
    assert_eq!(made, expected.map(|(text, seed)| (text.to_owned(), true, seed)));
    let notes: Vec<_> = json["notes"].as_array().unwrap().iter().collect();
    assert_eq!(
        notes,
        [
            r#"--prompt "a b" c instead of the picture's prompt "a fox""#,
            r#"--prompt "a b" c instead of the picture's prompt_2 clay"#,
            "FLUX_RT_SEED=5 instead of the picture's seed 3",
        ]
    );
    desk.file("prompts.txt", b"a house\n");
    let answer = again(&desk, "a.png", &["--prompt-file", "prompts.txt", "--out", "b.png"]);
    assert!(
        answer.succeeds().stderr.contains("--prompt-file prompts.txt instead of the picture's")
    );
    assert_eq!(read(&desk, "b.png").1.prompt, "a house");
}

#[test]
fn what_a_picture_does_not_say_is_named() {
    let desk = Desk::new();
    picture(&desk, "a.png", r#"{"prompt":"fox","later":{"x":1},"steps":1}"#);
    let answer = again(&desk, "a.png", &["--out", "b.png", "--seed", "4"]);
    let said: Metadata = read(&desk, "b.png").1;
    assert_eq!((said.width, said.height, said.steps), (48, 32, 1));
    assert_eq!((said.seed, said.guidance, said.mode.as_str()), (4, Some(3.5), "XL"));
    for (field, taken) in [
        ("schema", "that of this version"),
        ("width", "its own, 48"),
        ("height", "its own, 32"),
        ("guidance", "the model's default"),
        ("max_sequence_length", "the model's default"),
        ("rng", "torch-cuda"),
        ("dtype", "auto"),
        ("mode", "XL"),
        ("cache", "none"),
    ] {
        let note = format!("note: the picture does not say its {field}; taking {taken}\n");
        assert!(answer.succeeds().stderr.contains(&note), "no `{note}` in: {}", answer.stderr);
    }
    for said in ["its seed;", "its steps;"] {
        assert!(!answer.stderr.contains(said), "{}", answer.stderr);
    }
    assert!(answer.stderr.contains(r#"note: later: {"x":1} in the picture, none here"#));
}

#[test]
fn older_caches_and_other_devices_are_named() {
    let desk = Desk::new();
    let args = ["--prompt", "x", "--cache", "aggressive", "--cache-warmup", "1", "--out", "a.png"];
    desk.small_run("dev", &args).succeeds();
    let drawn = read(&desk, "a.png").0;
    resay(&desk, "a.png", |json| {
        json["program_version"] = "0.0.9".into();
        json["device"] = "NVIDIA \u{1b}[2J".into();
        json["cache_record"]["double"].as_object_mut().unwrap().remove("taylor_order");
        json["cache_record"].as_object_mut().unwrap().remove("lists");
    });
    let answer = again(&desk, "a.png", &["--out", "b.png"]);
    for note in [
        "note: the picture does not say its cache's double.taylor_order; taking the default\n",
        "note: program_version: 0.0.9 in the picture, 0.1.0 here\n",
        "note: device: \"NVIDIA \\u{1b}[2J\" in the picture, cpu here\n",
    ] {
        assert!(answer.succeeds().stderr.contains(note), "no `{note}` in: {}", answer.stderr);
    }
    assert!(!answer.stderr.contains('\u{1b}'));
    assert_eq!(answer.stderr.matches("note: ").count(), 3, "{}", answer.stderr);
    assert_eq!(read(&desk, "b.png").0, drawn);
    picture(&desk, "c.png", r#"{"prompt":"x","cache":"aggressive","steps":1}"#);
    let answer = again(&desk, "c.png", &["--out", "d.png"]);
    assert!(answer.succeeds().stderr.contains("taking those of aggressive"), "{}", answer.stderr);
    assert_eq!(read(&desk, "d.png").1.cache, "aggressive");
}
