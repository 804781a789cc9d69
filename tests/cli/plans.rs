//! Plan files as a mode.

use flux_rt::model::source::ModelSource;

use crate::Desk;
use crate::golden;
use crate::pictures::read;

/// A plan that computes the first double block's MLP in fp8; `more` are fields of the file.
fn plan(desk: &Desk, more: &str) {
    let double = r#"[{ "blocks": "0", "mlp_up": "fp8", "mlp_down": "fp8" }]"#;
    let text = format!(r#"{{ "version": 1, "name": "mine", {more} "double": {double} }}"#);
    desk.file("mine.json", text.as_bytes());
}

#[test]
fn a_plan_of_this_model_draws() {
    let desk = Desk::new();
    let run = |mode: &str, out: &str| {
        desk.small_run("dev", &["--prompt", "fox", "--mode", mode, "--out", out]).succeeds();
        read(&desk, out)
    };
    let (plain, settings) = run("XL", "xl.png");
    assert_eq!(settings.plan, None, "it is built in");
    let source = ModelSource::new(golden("dev").to_string_lossy());
    let digest = source.resolve().unwrap().transformer_digest().unwrap().unwrap();
    plan(&desk, &format!(r#""model": "{digest}","#));
    let (drawn, settings) = run("mine.json", "mine.png");
    assert_ne!(drawn, plain, "fp8 rounds");
    assert_eq!(settings.mode, "mine.json");
    // The picture says what drew it, though the file may be gone: its plan is a plan file.
    desk.file("mine.json", settings.plan.unwrap().to_string().as_bytes());
    assert_eq!(run("mine.json", "again.png").0, drawn);
    let inspected = desk.call(["inspect", "mine.png"]);
    inspected.succeeds();
    assert!(inspected.stdout.contains(r#""mlp_down":"fp8""#), "{}", inspected.stdout);
    plan(&desk, "");
    assert_eq!(run("mine.json", "any.png").0, drawn, "a plan for any transformer of these sizes");
}

#[test]
fn a_plan_of_another_model_is_refused() {
    let desk = Desk::new();
    let other = "0".repeat(64);
    plan(&desk, &format!(r#""model": "{other}","#));
    let answer = desk.small_run("dev", &["--prompt", "fox", "--mode", "mine.json"]);
    answer.fails(3, &["mine.json", "model", "a plan for this transformer", &other, "take out"]);
    assert!(!desk.path("out").exists(), "nothing is left behind");
}

#[test]
fn a_plan_that_does_not_fit_names_the_field() {
    let desk = Desk::new();
    for (content, parts) in [
        ("{", vec!["expected a plan in JSON"]),
        (r#"{ "version": 2, "name": "x" }"#, vec!["version", "1", "2"]),
        (
            r#"{ "version": 1, "name": "x", "double": [{ "blocks": "0-77" }] }"#,
            vec!["double[0]", "blocks below"],
        ),
        (
            r#"{ "version": 1, "name": "x", "single": [{ "blocks": "0", "mlp": 100 }] }"#,
            vec!["single[0]", "128"],
        ),
    ] {
        desk.file("mine.json", content.as_bytes());
        let answer = desk.small_run("dev", &["--prompt", "fox", "--mode", "mine.json"]);
        answer.fails(3, &[&["mine.json"], &parts[..]].concat());
    }
}
