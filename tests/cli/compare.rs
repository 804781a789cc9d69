//! `flux-rt compare`: pictures, documents, going on, failing in part.

use flux_rt::files;
use flux_rt::pipeline::image::decode_png;
use serde_json::Value;

use crate::Answer;
use crate::Desk;
use crate::golden;

/// Twelve steps of a small picture, so that a cache may skip some.
const SMALL: [&str; 10] =
    ["--device", "cpu", "--width", "48", "--height", "32", "--steps", "12", "--progress", "none"];
const PROMPTS: [&str; 3] = ["--prompt", "a fox", "a house"];
const CACHE: &str = "preset = \"aggressive\"\nwarmup = 2\nthreshold = 0.9\n";

fn args<'a>(model: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["compare", "--model", model].into_iter().chain(SMALL).chain(PROMPTS);
    fixed.chain(more.iter().copied()).collect()
}

fn compare(desk: &Desk, more: &[&str]) -> Answer {
    desk.file("mine.toml", CACHE.as_bytes());
    desk.call(args(&golden("dev").to_string_lossy(), more))
}

fn results(desk: &Desk, folder: &str) -> Value {
    let text = files::read_text(&desk.path(folder).join("results.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn pixels(desk: &Desk, path: &str) -> Vec<u8> {
    let path = desk.path(path);
    let bytes = files::map(&path).unwrap();
    decode_png(&bytes, &path).unwrap().0.data
}

#[test]
fn every_prompt_is_drawn_in_every_configuration() {
    let desk = Desk::new();
    let answer = compare(&desk, &["--modes", "XL,S", "--caches", "none,mine.toml"]);
    answer.succeeds();
    let results = results(&desk, "results");
    assert_eq!(
        (&results["status"], &results["reference"]),
        (&"complete".into(), &"XL, none".into())
    );
    let configurations = results["configurations"].as_array().unwrap();
    let names: Vec<&str> = configurations.iter().map(|of| of["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["XL, none", "XL, mine.toml", "S, none", "S, mine.toml"]);
    for (index, of) in configurations.iter().enumerate() {
        let pictures = of["pictures"].as_array().unwrap();
        assert_eq!(pictures.len(), 2, "{of}");
        assert_eq!((&pictures[0]["seed"], &pictures[1]["seed"]), (&42.into(), &43.into()));
        let mean = &of["mean"];
        assert!(
            mean["total_ms"].as_f64().unwrap() > 0.0 && mean["speedup"].as_f64().unwrap() > 0.0
        );
        assert!(of["peak_memory_bytes"].as_u64().is_none_or(|bytes| bytes > 1 << 20));
        let cached = index % 2 == 1;
        assert_eq!(
            mean["hits"]["per_step"].as_f64().is_some_and(|rate| rate > 0.0),
            cached,
            "{of}"
        );
        match index {
            0 => assert!(mean["quality"].is_null(), "{of}"),
            _ => {
                let quality = |name: &str| mean["quality"][name].as_f64().unwrap();
                assert!(quality("psnr") < 99.0 && quality("ssim") < 1.0, "{of}");
                assert!(quality("ssimulacra2") < 100.0 && quality("latents_error") > 0.0, "{of}");
            }
        }
    }
    // What `run` draws.
    let model = golden("dev").to_string_lossy().into_owned();
    let file = configurations[3]["pictures"][1]["file"].as_str().unwrap().to_owned();
    assert_eq!(file, "pictures/s-mine-toml-02-a-house.png");
    let run = ["run", "--model", &model, "--prompt", "a house", "--seed", "43", "--mode", "S"];
    let rest = ["--cache", "mine.toml", "--out", "one.png"];
    desk.call(run.iter().chain(&SMALL).chain(&rest)).succeeds();
    assert_eq!(pixels(&desk, &format!("results/{file}")), pixels(&desk, "one.png"));
    // The tables.
    let summary = files::read_text(&desk.path("results/summary.md")).unwrap();
    assert_eq!(answer.stdout, summary);
    assert_eq!(summary.lines().filter(|line| line.starts_with("| ")).count(), 5, "{summary}");
    assert!(summary.contains("| XL | none |") && summary.contains("| reference |"), "{summary}");
    let recommended = &results["recommendation"];
    assert!(names.contains(&recommended["fastest"].as_str().unwrap()), "{recommended}");
    let count = |name: &str| recommended[name].as_array().unwrap().len();
    assert_eq!(count("best") + count("not_worth_it"), 4, "{recommended}");
    assert!(summary.contains("Fastest: ") && summary.contains("The rule: "), "{summary}");
    let table = files::read_text(&desk.path("results/results.csv")).unwrap();
    let rows: Vec<&str> = table.split("\r\n").collect();
    assert_eq!(rows.len(), 1 + 8 + 1, "{table}");
    assert!(rows.iter().take(9).all(|row| row.split(',').count() == 22), "{table}");
}

#[test]
fn a_comparison_is_gone_on_with_and_not_overwritten() {
    let desk = Desk::new();
    let which = ["--modes", "XL,S", "--caches", "none,mine.toml"];
    let with = |more: &[&str]| compare(&desk, &[which.as_slice(), more].concat());
    with(&[]).succeeds();
    with(&[]).fails(2, &["--out", "holds a comparison", "--resume", "--overwrite"]);
    let lost = "results/pictures/s-none-02-a-house.png";
    let (before, kept) = (pixels(&desk, lost), results(&desk, "results"));
    std::fs::remove_file(desk.path(lost)).unwrap();
    with(&["--resume"]).succeeds();
    assert_eq!(pixels(&desk, lost), before);
    let after = results(&desk, "results");
    let picture = |of: &Value, index: usize, prompt: usize| {
        of["configurations"][index]["pictures"][prompt].clone()
    };
    for (index, prompt) in [(0, 0), (0, 1), (1, 0), (2, 0), (3, 1)] {
        assert_eq!(picture(&after, index, prompt), picture(&kept, index, prompt), "made again");
    }
    assert_ne!(picture(&after, 2, 1)["denoise_ms"], picture(&kept, 2, 1)["denoise_ms"]);
    assert_eq!(picture(&after, 2, 1)["quality"], picture(&kept, 2, 1)["quality"]);
    // Each of the reference's pictures keeps its own latents, though the first is lost.
    for lost in [lost, "results/pictures/xl-none-01-a-fox.png"] {
        std::fs::remove_file(desk.path(lost)).unwrap();
    }
    with(&["--resume"]).succeeds();
    let after = results(&desk, "results");
    assert_eq!(picture(&after, 2, 1)["quality"], picture(&kept, 2, 1)["quality"]);
    with(&["--resume", "--seed", "7"]).fails(2, &["--resume", "seed (7 instead of 42)"]);
    assert_eq!(results(&desk, "results"), after, "nothing was lost");
    // One more cache than before.
    desk.file("other.toml", CACHE.as_bytes());
    let more = ["--modes", "XL", "--caches", "none,other.toml", "--resume"];
    compare(&desk, &more).succeeds();
    assert_eq!(results(&desk, "results")["configurations"].as_array().unwrap().len(), 5);
    compare(&desk, &["--out", "new", "--resume"]).fails(2, &["--out", "found none in `new`"]);
    std::fs::create_dir(desk.path("broken")).unwrap();
    desk.file("broken/results.json", b"{}");
    compare(&desk, &["--out", "broken", "--resume"]).fails(3, &["results.json", "schema_version"]);
}

#[test]
fn a_mode_that_fails_leaves_the_rest() {
    let desk = Desk::new();
    let other = "0".repeat(64);
    let plan = format!(r#"{{ "version": 1, "name": "other", "model": "{other}", "double": [] }}"#);
    desk.file("other.json", plan.as_bytes());
    let answer = compare(&desk, &["--modes", "XL,other.json", "--caches", "none"]);
    assert_eq!(answer.code, Some(3), "{}", answer.stderr);
    for part in ["mode other.json failed", "a plan for this transformer"] {
        assert!(answer.stderr.contains(part), "no `{part}` in: {}", answer.stderr);
    }
    let results = results(&desk, "results");
    assert_eq!(results["status"], "failed");
    assert_eq!(results["configurations"][0]["pictures"].as_array().unwrap().len(), 2);
    assert!(results["configurations"][1]["error"].as_str().unwrap().contains("plan"));
    assert!(answer.stdout.contains("Failed:\n\n- other.json, none: "), "{}", answer.stdout);
}

#[test]
fn mistakes_are_said_before_anything_is_loaded() {
    let desk = Desk::new();
    for (more, parts) in [
        (vec!["--modes", "XL,XL"], vec!["--modes", "XL, none again"]),
        (vec!["--modes", "XXL"], vec!["--modes", "XXL"]),
        (vec!["--caches", "agressive"], vec!["--caches", "did you mean aggressive"]),
        (vec!["--caches", "none,missing.toml"], vec!["missing.toml"]),
        (vec!["--out", "mine.toml"], vec!["--out", "expected a folder"]),
        (vec!["--resume", "--overwrite"], vec!["--resume", "--overwrite"]),
    ] {
        let answer = compare(&desk, &more);
        assert!(matches!(answer.code, Some(2 | 3)), "{more:?}: {}", answer.stderr);
        for part in parts {
            assert!(answer.stderr.contains(part), "no `{part}` in: {}", answer.stderr);
        }
        assert!(!desk.path("results").exists());
    }
}
