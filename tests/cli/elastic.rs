//! Preparing a model for widths, and making plans.

use flux_rt::pipeline::Metadata;
use flux_rt::pipeline::RgbImage;
use serde_json::Value;

use crate::Answer;
use crate::Desk;
use crate::SMALL;
use crate::golden;
use crate::pictures::read;

/// `flux-rt elastic` on a small model with two calibration prompts.
fn elastic(desk: &Desk, verb: &str, model: &str, args: &[&str]) -> Answer {
    desk.file("prompts.txt", b"fox\na house\n");
    let fixed = ["elastic", verb, "--model", model, "--prompt-file", "prompts.txt"];
    desk.call(fixed.iter().chain(&SMALL).chain(args))
}

fn prepared(desk: &Desk) {
    let model = golden("dev");
    elastic(desk, "prepare", &model.to_string_lossy(), &["--out", "prepared"]).succeeds();
}

fn draw(desk: &Desk, model: &str, mode: &str, out: &str) -> (RgbImage, Metadata) {
    let args = ["run", "--model", model, "--prompt", "fox", "--mode", mode, "--out", out];
    desk.call(args.iter().chain(&SMALL)).succeeds();
    let (data, settings) = read(desk, out);
    (RgbImage { width: 48, height: 32, data }, settings)
}

#[test]
fn a_prepared_model_draws_the_same() {
    let desk = Desk::new();
    prepared(&desk);
    assert!(!desk.path("prepared.partial").exists());
    let (before, _) = draw(&desk, &golden("dev").to_string_lossy(), "XL", "before.png");
    let (after, _) = draw(&desk, "prepared", "XL", "after.png");
    // Sums in another order: a pixel may be off by one.
    assert!(before.psnr(&after) > 60.0, "{} dB", before.psnr(&after));
}

/// Mode S of a prepared model reads e4m3 from its file, to the bit what it makes itself.
#[test]
fn a_prepared_model_holds_its_fp8_layers() {
    let desk = Desk::new();
    prepared(&desk);
    let (stored, _) = draw(&desk, "prepared", "S", "stored.png");
    let (by_l, _) = draw(&desk, "prepared", "L", "l.png");
    let path = desk.path("prepared/transformer/e4m3.safetensors");
    let mut bytes = flux_rt::files::map(&path).unwrap().to_vec();
    flux_rt::files::rename(&path, &desk.path("e4m3.safetensors")).unwrap();
    let (made, _) = draw(&desk, "prepared", "S", "made.png");
    assert_eq!(stored, made);
    assert_eq!(by_l, draw(&desk, "prepared", "L", "l-made.png").0);
    // What is stored is what is computed with.
    let last = bytes.len() - 64;
    bytes[last..].fill(0x38);
    desk.file("prepared/transformer/e4m3.safetensors", &bytes);
    assert_ne!(stored, draw(&desk, "prepared", "S", "other.png").0);
    // A broken file is named.
    desk.file("prepared/transformer/e4m3.safetensors", &bytes[..last]);
    let args = ["run", "--model", "prepared", "--mode", "S", "--prompt", "fox"];
    desk.call(args).fails(3, &["e4m3.safetensors"]);
}

#[test]
fn a_narrow_plan_draws_a_prepared_model_alone() {
    let desk = Desk::new();
    prepared(&desk);
    let narrow = r#"{ "version": 1, "name": "narrow",
        "double": [{ "blocks": "0", "mlp": 256, "heads": 1 }, { "blocks": "1", "mlp": 384 }],
        "single": [{ "blocks": "0-1", "mlp": 256, "linear2": "fp8" }, { "blocks": "1", "heads": 1 }] }"#;
    desk.file("narrow.json", narrow.as_bytes());
    let (whole, _) = draw(&desk, "prepared", "XL", "whole.png");
    let (less, _) = draw(&desk, "prepared", "narrow.json", "less.png");
    let psnr = whole.psnr(&less);
    assert!(psnr < 60.0, "{psnr} dB: nothing was left out");
    assert!(psnr > 15.0, "{psnr} dB: not the same picture");
    let model = golden("dev");
    let args = ["run", "--model", &model.to_string_lossy(), "--prompt", "fox"];
    let answer = desk.call(args.iter().chain(&SMALL).chain(&["--mode", "narrow.json"]));
    answer.fails(3, &["narrow.json", "not prepared", "elastic prepare"]);
}

#[test]
fn a_plan_stays_within_its_bound_and_becomes_a_mode() {
    let desk = Desk::new();
    prepared(&desk);
    let args = ["--max-loss", "0.02", "--name", "S", "--out", "prepared/plans/S.json", "--json"];
    let answer = elastic(&desk, "plan", "prepared", &args);
    answer.succeeds();
    let document: Value = serde_json::from_str(&answer.stdout).unwrap();
    let measured = &document["measured"];
    let number = |name: &str| measured[name].as_f64().unwrap();
    assert!((0.0..=0.02).contains(&number("loss")) && number("loss") > 0.0, "{measured}");
    assert!(number("time") < 1.0 && number("psnr") > 10.0, "{measured}");
    let built_in = document["built_in"].as_array().unwrap();
    let losses: Vec<f64> = built_in.iter().map(|mode| mode["loss"].as_f64().unwrap()).collect();
    assert!(losses.len() == 3 && losses[0] < losses[1] && losses[1] < losses[2], "{losses:?}");
    let choices = document["choices"].as_array().unwrap();
    // Two double blocks of five layers, and two single ones of three; four times three MLP widths and one
    // head.
    assert_eq!(choices.len(), 2 * 5 + 2 * 3 + 4 * 3 - 4 + 4, "{}", choices.len());
    assert!(choices.iter().any(|choice| choice["taken"] == true));
    assert!(choices.iter().any(|choice| choice["taken"] == false));
    let (by_mode, settings) = draw(&desk, "prepared", "S", "mode.png");
    let (by_file, _) = draw(&desk, "prepared", "prepared/plans/S.json", "file.png");
    assert_eq!(by_mode, by_file, "mode S is the model's own plan");
    assert_eq!(settings.mode, "S");
    let again = elastic(&desk, "plan", "prepared", &args);
    again.fails(2, &["prepared/plans/S.json", "--overwrite"]);
}

#[test]
fn mistakes_are_said_before_anything_is_done() {
    let desk = Desk::new();
    let model = golden("dev");
    let model = model.to_string_lossy();
    desk.file("there", b"");
    let answer = elastic(&desk, "prepare", &model, &["--out", "there"]);
    answer.fails(2, &["--out", "not there yet"]);
    for bound in ["0", "1", "-1", "nan"] {
        let answer = elastic(&desk, "plan", &model, &["--max-loss", bound]);
        answer.fails(2, &["--max-loss"]);
    }
    desk.call(["elastic", "prepare"]).fails(2, &["--out <DIR>"]);
    desk.call(["elastic", "plan"]).fails(2, &["--max-loss <X>"]);
    assert!(!desk.path("plan.json").exists());
}
