//! `run` from end to end with the models of the golden tests.

use flux_rt::files;
use flux_rt::pipeline::image::decode_png;
use flux_rt::pipeline::metadata::JSON_KEYWORD;
use flux_rt::pipeline::metadata::Metadata;

use crate::Desk;
use crate::golden;

/// Pixels and settings of a picture.
pub(crate) fn read(desk: &Desk, name: &str) -> (Vec<u8>, Metadata) {
    let path = desk.path(name);
    let (image, texts) = decode_png(&files::map(&path).unwrap(), &path).unwrap();
    let json = texts.iter().find(|(keyword, _)| keyword == JSON_KEYWORD).unwrap();
    (image.data, Metadata::from_json(&json.1, &path).unwrap())
}

#[test]
fn a_prompt_becomes_a_picture_with_its_settings() {
    let desk = Desk::new();
    let args = ["--prompt", "a red apple", "--seed", "42", "--guidance", "2", "--mode", "s"];
    let answer = desk.small_run("dev", &args);
    answer.succeeds();
    assert_eq!(answer.stdout, "out/0001-a-red-apple-s42.png\n");
    let (pixels, settings) = read(&desk, "out/0001-a-red-apple-s42.png");
    assert_eq!(pixels.len(), 48 * 32 * 3);
    assert_eq!(settings.prompt, "a red apple");
    assert_eq!((settings.width, settings.height, settings.steps), (48, 32, 2));
    assert_eq!((settings.seed, settings.guidance), (42, Some(2.0)));
    assert_eq!((settings.mode.as_str(), settings.cache.as_str()), ("S", "none"));
    assert_eq!((settings.rng.as_str(), settings.rng_grid), ("torch-cuda", Some(1056)));
    assert_eq!(settings.program_version, env!("CARGO_PKG_VERSION"));
    assert!(settings.weights.len() >= 4 && settings.weights.values().all(|sum| sum.len() == 64));
    let shown = desk.call(["inspect", "out/0001-a-red-apple-s42.png"]);
    assert!(shown.stdout.contains("made by flux-rt") && shown.stdout.contains("a red apple"));
    let json = desk.call(["inspect", "out/0001-a-red-apple-s42.png", "--json"]).json();
    assert_eq!(json["settings"]["seed"], 42);
}

#[test]
fn the_same_command_draws_the_same_pixels_into_a_new_file() {
    let desk = Desk::new();
    for expected in ["out/0001-fox-s0.png\n", "out/0002-fox-s0.png\n"] {
        let answer = desk.small_run("schnell", &["--prompt", "fox"]);
        assert_eq!(answer.succeeds().stdout, expected);
    }
    let other = desk.small_run("schnell", &["--prompt", "fox", "--seed", "1", "--out", "b.png"]);
    assert_eq!(other.succeeds().stdout, "b.png\n");
    let pixels = |name| read(&desk, name).0;
    assert_eq!(pixels("out/0001-fox-s0.png"), pixels("out/0002-fox-s0.png"));
    assert_ne!(pixels("out/0001-fox-s0.png"), pixels("b.png"));
}

#[test]
fn tiling_is_recorded() {
    let desk = Desk::new();
    for (flags, tiling) in [(vec![], false), (vec!["--vae-tiling"], true)] {
        let args = [vec!["--prompt", "x", "--json", "--overwrite", "--out", "a.png"], flags];
        let json = desk.small_run("schnell", &args.concat()).succeeds().json();
        assert_eq!(json["pictures"][0]["vae_tiling"], tiling);
        assert_eq!(read(&desk, "a.png").1.vae_tiling, tiling);
    }
}

#[test]
fn without_a_prompt_the_example_is_named() {
    let desk = Desk::new();
    let answer = desk.small_run("dev", &["--out", "a.png"]);
    answer.succeeds();
    let prompt = read(&desk, "a.png").1.prompt;
    assert!(!prompt.is_empty() && answer.stderr.contains(&prompt), "{}", answer.stderr);
}

#[test]
fn what_does_not_act_yet_is_said() {
    let desk = Desk::new();
    let answer = desk.small_run("dev", &["--prompt", "x", "--mode", "original"]);
    answer.succeeds();
    assert!(answer.stderr.contains("note: mode original: "), "{}", answer.stderr);
}

#[test]
fn the_json_document_has_settings_timings_and_paths() {
    let desk = Desk::new();
    let args = ["--prompt", "a", "b c", "--count", "2", "--seed", "7", "--json", "--out", "p/q"];
    let answer = desk.small_run("dev", &args);
    answer.succeeds();
    let json = answer.json();
    assert_eq!(json["schema_version"], 1);
    assert_eq!(json["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&json["status"], &json["error"]), (&"complete".into(), &().into()));
    assert_eq!(json["device"], "cpu");
    assert!(json["load_ms"].as_f64().unwrap() > 0.0);
    let pictures = json["pictures"].as_array().unwrap();
    let seen: Vec<_> = pictures
        .iter()
        .map(|picture| (picture["prompt"].as_str().unwrap(), picture["seed"].as_u64().unwrap()))
        .collect();
    assert_eq!(seen, [("a", 7), ("a", 8), ("b c", 7), ("b c", 8)]);
    for picture in pictures {
        assert!(desk.path(picture["path"].as_str().unwrap()).is_file());
        let timings = &picture["timings"];
        let phases = ["encode_ms", "prepare_ms", "denoise_ms", "decode_ms"];
        let sum: f64 = phases.iter().map(|phase| timings[phase].as_f64().unwrap()).sum();
        assert!((timings["total_ms"].as_f64().unwrap() - sum).abs() < 0.01);
        assert_eq!(picture["width"], 48);
    }
}

#[test]
fn prompts_come_from_a_file_or_stdin() {
    let desk = Desk::new();
    desk.file("prompts.txt", "\u{feff}# two\r\na fox\r\n\r\n狐\r\n".as_bytes());
    let answer = desk.small_run("schnell", &["--prompt-file", "prompts.txt"]);
    assert_eq!(answer.succeeds().stdout, "out/0001-a-fox-s0.png\nout/0002-picture-s0.png\n");
    assert_eq!(read(&desk, "out/0002-picture-s0.png").1.prompt, "狐");
    let model = golden("schnell");
    let model = model.to_string_lossy();
    let mut args = vec!["run", "--model", &*model, "--prompt-file", "-"];
    args.extend(crate::SMALL);
    let answer = desk.call_with("from stdin\n", &args);
    assert_eq!(answer.succeeds().stdout, "out/0003-from-stdin-s0.png\n");
}

#[test]
fn variables_set_options_and_flags_beat_them() {
    let desk = Desk::new();
    let mut command = desk.command(crate::small_args("dev", &["--prompt", "x", "--seed", "5"]));
    command.env("FLUX_RT_SEED", "9").env("FLUX_RT_GUIDANCE", "1.5").env("FLUX_RT_OUT", "x.png");
    command.env("FLUX_RT_PROMPT_FILE", "not read");
    crate::Answer::from(command.output().unwrap()).succeeds();
    let settings = read(&desk, "x.png").1;
    assert_eq!((settings.seed, settings.guidance), (5, Some(1.5)));
}

#[test]
fn latents_that_were_saved_can_be_used() {
    let desk = Desk::new();
    let args = ["--prompt", "x", "--count", "2", "--save-latents", "l.safetensors"];
    desk.small_run("dev", &args).succeeds();
    let shown = desk.call(["inspect", "l.safetensors", "--tensors"]);
    assert!(shown.stdout.contains("[2, 6, 64]"), "{}", shown.stdout);
    let again = ["--prompt", "x", "--count", "2", "--latents", "l.safetensors"];
    desk.small_run("dev", &again).succeeds();
    let settings = read(&desk, "out/0003-x-s0.png").1;
    assert_eq!((settings.rng.as_str(), settings.rng_grid), ("l.safetensors", None));
    let args = ["--prompt", "x", "--count", "3", "--latents", "l.safetensors"];
    desk.small_run("dev", &args).fails(2, &["--latents", "expected 1 or 3", "found 2"]);
    let model = golden("dev");
    let args = ["run", "--model", &*model.to_string_lossy(), "--width", "64", "--height", "64"];
    let args = args.into_iter().chain(["--count", "2", "--latents", "l.safetensors"]);
    desk.call(args).fails(2, &["--latents", "expected 16 tokens for 64x64"]);
}

#[test]
fn noise_and_number_format_act_and_are_recorded() {
    let desk = Desk::new();
    let mut pictures = Vec::new();
    for (number, (flags, rng, grid, dtype)) in [
        (["--rng", "torch-cuda"].as_slice(), "torch-cuda", Some(1056), "f32"),
        (&["--rng-grid", "1"], "torch-cuda", Some(1), "f32"),
        (&["--rng", "torch-cpu"], "torch-cpu", None, "f32"),
        (&["--dtype", "bf16", "--rng", "torch-cpu"], "torch-cpu", None, "bf16"),
        (&["--dtype", "bf16", "--rng", "torch-cpu-legacy"], "torch-cpu-legacy", None, "bf16"),
        (&["--max-sequence-length", "9"], "torch-cuda", Some(1056), "f32"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("{number}.png");
        let args = [&["--prompt", "x", "--out", &*name], flags].concat();
        desk.small_run("dev", &args).succeeds();
        let (pixels, settings) = read(&desk, &name);
        assert_eq!((settings.rng.as_str(), settings.rng_grid), (rng, grid), "{flags:?}");
        assert_eq!(settings.dtype, dtype, "{flags:?}");
        pictures.push(pixels);
    }
    for (index, one) in pictures.iter().enumerate() {
        assert!(!pictures[..index].contains(one), "picture {index} is like one before");
    }
}
