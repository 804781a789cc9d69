//! Pictures that cannot be repeated, and those that mean harm: what they say is data, and no file that
//! they name is opened.

use flux_rt::pipeline::RgbImage;
use flux_rt::pipeline::image::encode_png;

use crate::Desk;
use crate::data;
use crate::golden;
use crate::receipts::again;
use crate::receipts::picture;
use crate::receipts::resay;

/// Both verbs that read a picture's settings must refuse the picture `a.png` alike.
#[track_caller]
fn both_fail(desk: &Desk, args: &[&str], code: i32, parts: &[&str]) {
    for verb in [["run", "--from"].as_slice(), &["verify"]] {
        let answer = desk.call([verb, &["a.png"], args].concat());
        assert!(!answer.stderr.contains('\u{1b}'), "{}", answer.stderr);
        assert!(answer.stderr.len() < 6000, "{} bytes", answer.stderr.len());
        answer.fails(code, parts);
        assert!(!desk.path("out").exists());
    }
}

#[test]
fn pictures_of_others_are_refused() {
    let desk = Desk::new();
    let image = RgbImage { width: 2, height: 1, data: vec![7; 6] };
    let foreign = encode_png(&image, &[("parameters", "a fox\nSteps: 20")]).unwrap();
    desk.file("a.png", &foreign);
    both_fail(&desk, &[], 3, &["a.png: ", "the text `flux-rt`", "another program made this file"]);
    desk.file("a.png", &foreign[..50]);
    both_fail(&desk, &[], 3, &["a.png: expected a sound PNG file"]);
    desk.file("a.png", b"hello");
    both_fail(&desk, &[], 3, &["a.png: expected a sound PNG file"]);
    std::fs::remove_file(desk.path("a.png")).unwrap();
    both_fail(&desk, &[], 2, &["cannot read a.png"]);
}

#[test]
fn damaged_and_newer_settings_are_refused() {
    let desk = Desk::new();
    let deep = format!(r#"{{"prompt":"x","plan":{}"#, "[".repeat(100_000));
    let long = format!(r#"{{"prompt":"x","cache_record":{{"layout":"{}"}}}}"#, "x".repeat(1 << 18));
    for (json, parts) in [
        ("{\"prompt\":", vec!["expected metadata in the text `flux-rt`"]),
        ("{}", vec!["missing field `prompt`"]),
        (r#"{"prompt":"x","seed":"7"}"#, vec!["expected u64"]),
        (r#"{"prompt":"x","width":-1}"#, vec!["expected usize"]),
        (r#"{"prompt":"x","cache_record":{"layout":"\u001b[2J"}}"#, vec!["unknown variant"]),
        (&deep, vec!["recursion limit"]),
        (&long, vec!["unknown variant"]),
        (r#"{"schema":2,"prompt":[]}"#, vec!["field `schema`", "expected 1", "newer flux-rt"]),
    ] {
        picture(&desk, "a.png", json);
        both_fail(&desk, &[], 3, &[&["a.png: "], &parts[..]].concat());
    }
}

#[test]
fn a_model_is_opened_only_if_the_user_names_it() {
    let desk = Desk::new();
    // A sound model, and one by the name that the built-in one has in a path.
    for model in [golden("dev"), data::path("models/demo"), "Demo".into(), "demo/".into()] {
        let model = model.to_string_lossy();
        let json = serde_json::json!({ "prompt": "x", "steps": 1, "model": model });
        picture(&desk, "a.png", &json.to_string());
        let asked = format!("expected --model {model}, or wherever it lies now");
        both_fail(&desk, &[], 2, &["--model: the picture was made with the model", &asked]);
    }
    let json = serde_json::json!({ "prompt": "x", "model": "synthetic:\u{1b}]0;x\u{7} y" });
    picture(&desk, "a.png", &json.to_string());
    both_fail(&desk, &[], 2, &[r#"--model "synthetic:\u{1b}]0;x\u{7} y""#]);
}

#[test]
fn a_plan_is_opened_only_if_the_user_names_it() {
    let desk = Desk::new();
    desk.file("plan.json", br#"{ "version": 1, "name": "x" }"#);
    let path = desk.path("plan.json");
    let model = golden("dev").to_string_lossy().into_owned();
    for mode in ["plan.json", &*path.to_string_lossy(), "s", "XXL", ""] {
        let json = serde_json::json!({ "prompt": "x", "steps": 1, "mode": mode });
        picture(&desk, "a.png", &json.to_string());
        both_fail(
            &desk,
            &["--model", &model],
            2,
            &["--mode: ", "name a mode or a plan with --mode"],
        );
    }
    let answer = again(&desk, "a.png", &["--mode", "plan.json"]);
    assert!(answer.succeeds().stderr.contains("--mode plan.json instead of the picture's mode"));
    std::fs::remove_dir_all(desk.path("out")).unwrap();
    for (plan, part) in [
        (r#"{"version":1,"name":"x","double":[{"blocks":"0-99"}]}"#, "blocks below 2"),
        (r#"{"version":1,"name":"x","single":[{"blocks":"0","mlp":100}]}"#, "multiple of 128"),
        (r#"{"version":9,"name":"x"}"#, "version"),
        (r#""plan.json""#, "expected a plan in JSON"),
    ] {
        let json = format!(r#"{{"prompt":"x","mode":"plan.json","plan":{plan}}}"#);
        picture(&desk, "a.png", &json);
        both_fail(&desk, &["--model", &model], 3, &["a.png: ", part]);
    }
}

#[test]
fn latents_are_opened_only_if_the_user_names_them() {
    let desk = Desk::new();
    desk.small_run("dev", &["--prompt", "x", "--out", "a.png", "--save-latents", "l.safetensors"])
        .succeeds();
    let path = desk.path("l.safetensors").to_string_lossy().into_owned();
    resay(&desk, "a.png", |json| json["rng"] = path.clone().into());
    let model = golden("dev").to_string_lossy().into_owned();
    let asked = format!("expected --latents {path}");
    both_fail(&desk, &["--model", &model], 2, &["--latents: ", &asked]);
}

#[test]
fn settings_that_cannot_be_are_refused_as_flags_are() {
    let desk = Desk::new();
    let model = golden("dev").to_string_lossy().into_owned();
    let replay = vec![1; 100_000];
    for (settings, part) in [
        (serde_json::json!({ "width": 40 }), "--width: expected a multiple of 16"),
        (serde_json::json!({ "height": 1_u64 << 40 }), "--height: expected a multiple of 16"),
        (serde_json::json!({ "steps": 0 }), "--steps: expected 1 to 1000"),
        (serde_json::json!({ "guidance": 1e30 }), "--guidance: expected 0 to 100"),
        (serde_json::json!({ "max_sequence_length": 0 }), "--max-sequence-length: expected 1"),
        (serde_json::json!({ "rng": "torch-cuda", "rng_grid": 0 }), "expected 1 to 65536 blocks"),
        (serde_json::json!({ "dtype": "f16" }), "expected f32 or bf16 in the picture"),
        (
            serde_json::json!({ "cache": "custom" }),
            "the cache custom and does not hold its options",
        ),
        (serde_json::json!({ "cache_record": { "double": { "fn": 0 } } }), "--cache-"),
        (
            serde_json::json!({ "steps": 2, "cache_record": {
                "layout": "split", "double": { "fn": 1, "replay": replay }, "single": { "fn": 1 } } }),
            "--cache-replay",
        ),
    ] {
        let mut json = serde_json::json!({ "schema": 1, "prompt": "x", "model": "demo" });
        json.as_object_mut().unwrap().extend(settings.as_object().unwrap().clone());
        picture(&desk, "a.png", &json.to_string());
        both_fail(&desk, &["--model", &model], 2, &[part]);
    }
}
