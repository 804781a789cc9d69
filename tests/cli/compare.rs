//! `flux-rt compare`: pictures, documents, going on, failing in part.

use std::path::Path;

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

/// The names of all fields, but for those of a picture's cache, which are those of its metadata, and of
/// files.
fn fields(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(fields).collect(),
        Value::Object(map) => {
            let inside = |(name, value): (&String, &Value)| {
                let skipped = ["cache", "weights"].contains(&name.as_str());
                let below = if skipped { Vec::new() } else { fields(value) };
                [vec![name.clone()], below].concat()
            };
            map.iter().flat_map(inside).collect()
        }
        _ => Vec::new(),
    }
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
fn grids_charts_and_a_report_are_made_of_it() {
    let desk = Desk::new();
    let prompt = "</script><b>\"fox\" & co";
    desk.file("mine.toml", CACHE.as_bytes());
    let model = golden("dev").to_string_lossy().into_owned();
    let which = ["--modes", "XL,S", "--caches", "none,mine.toml", "--prompt", prompt];
    let args = ["compare", "--model", &model];
    desk.call(args.into_iter().chain(SMALL).chain(which)).succeeds();
    // Every pixel of a picture several times, in a row.
    let grid = desk.path("results/grids/s-01-script-b-fox-co.png");
    let (grid, _) = decode_png(&files::map(&grid).unwrap(), &grid).unwrap();
    assert_eq!(grid.width, 12 + 2 * (7 * 48 + 12));
    let picture = desk.path("results/pictures/s-mine-toml-01-script-b-fox-co.png");
    let (picture, _) = decode_png(&files::map(&picture).unwrap(), &picture).unwrap();
    for (row, column) in [(0, 0), (31, 47), (7, 30)] {
        let from = &picture.data[(row * 48 + column) * 3..][..3];
        let [down, across] = [grid.height - 12 - 7 * (32 - row) + 3, 24 + 7 * (48 + column) + 3];
        assert_eq!(&grid.data[(down * grid.width + across) * 3..][..3], from, "{row}, {column}");
    }
    let index = desk.path("results/grids/index.png");
    let (index, _) = decode_png(&files::map(&index).unwrap(), &index).unwrap();
    assert_eq!(index.width, 12 + 4 * (5 * 48 + 12));
    for name in ["time", "speedup", "quality"] {
        let svg = files::read_text(&desk.path(&format!("results/charts/{name}.svg"))).unwrap();
        assert!(svg.contains("S, mine.toml") && svg.trim_end().ends_with("</svg>"), "{svg}");
        let png = desk.path(&format!("results/charts/{name}.png"));
        let (png, _) = decode_png(&files::map(&png).unwrap(), &png).unwrap();
        let dark = png.data.iter().filter(|&&value| value < 100).count();
        assert!(png.width >= 1520 && dark > 1000, "{name}: {} wide, {dark} dark", png.width);
    }
    let report = files::read_text(&desk.path("results/report.html")).unwrap();
    assert!(!report.contains(prompt) && report.contains("&lt;b&gt;&quot;fox&quot; &amp; co"));
    assert_eq!(report.matches("src=\"data:image/png;base64,").count(), 4);
    let namespaces = report.matches("xmlns=\"http://").count();
    assert_eq!((report.matches("http").count(), namespaces), (4, 3), "one is http-equiv");
    for part in ["Recommendation", "Before and after", "Every picture", "mine.toml"] {
        assert!(report.contains(part), "no {part}");
    }
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
    // Neither another cache nor another plan of the same name is mixed in.
    desk.file("mine.toml", CACHE.replace("0.9", "0.5").as_bytes());
    let model = golden("dev").to_string_lossy().into_owned();
    let changed = which.iter().copied().chain(["--resume"]).collect::<Vec<_>>();
    let answer = desk.call(args(&model, &changed));
    assert_eq!(answer.code, Some(2), "{}", answer.stderr);
    assert!(answer.stderr.contains("options of cache mine.toml"), "{}", answer.stderr);
    let pictures = |of: &Value| of["configurations"][1]["pictures"].clone();
    assert_eq!(pictures(&results(&desk, "results")), pictures(&after), "nothing was lost");
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
fn pictures_that_are_not_those_that_were_made_are_made_anew() {
    let desk = Desk::new();
    let which = ["--modes", "XL,S", "--caches", "none"];
    let again = |more: &[&str]| compare(&desk, &[which.as_slice(), more].concat());
    again(&[]).succeeds();
    let kept = results(&desk, "results");
    let file = |mode: &str, prompt: &str| format!("results/pictures/{mode}-none-{prompt}.png");
    let before = pixels(&desk, &file("s", "01-a-fox"));
    // Empty, and a good picture under another's name.
    desk.file(&file("s", "01-a-fox"), b"");
    let other = files::map(&desk.path(&file("s", "02-a-house"))).unwrap().to_vec();
    desk.file(&file("xl", "02-a-house"), &other);
    desk.file("results/latents/xl-none-01-a-fox.safetensors", b"damaged");
    again(&["--resume"]).succeeds();
    assert_eq!(pixels(&desk, &file("s", "01-a-fox")), before);
    let after = results(&desk, "results");
    for (index, prompt) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let [kept, after] =
            [&kept, &after].map(|of| &of["configurations"][index]["pictures"][prompt]);
        assert_eq!(kept["sha256"], after["sha256"]);
        assert_eq!(kept["quality"], after["quality"]);
        let same = kept["total_ms"] == after["total_ms"];
        assert_eq!(same, (index, prompt) == (1, 1), "only that one was kept: {index} {prompt}");
    }
    // Numbers that nothing can have measured.
    let text = files::read_text(&desk.path("results/results.json")).unwrap();
    let total = after["configurations"][0]["pictures"][0]["total_ms"].to_string();
    desk.file("results/results.json", text.replace(&total, "1e308").as_bytes());
    let answer = again(&["--resume"]);
    answer.fails(3, &["results.json", "picture 0 of XL, none: total_ms: expected"]);
}

#[test]
fn a_comparison_that_is_replaced_leaves_nothing_behind() {
    let desk = Desk::new();
    compare(&desk, &["--modes", "XL,S", "--caches", "none"]).succeeds();
    desk.file("results/mine.txt", b"mine");
    let prompt = "a very long tale of a fox ".repeat(200);
    let model = golden("dev").to_string_lossy().into_owned();
    let which = ["--modes", "S", "--caches", "none", "--prompt", &prompt, "--overwrite"];
    let answer = desk.call(["compare", "--model", &model].into_iter().chain(SMALL).chain(which));
    answer.succeeds();
    let note = "prompt 1: CLIP cut the last";
    assert!(answer.stderr.contains(note), "{}", answer.stderr);
    assert!(results(&desk, "results")["notes"][0].as_str().unwrap().starts_with(note));
    let names = |folder: &str| files::list(&desk.path("results").join(folder)).unwrap();
    assert_eq!(names("pictures").len(), 1);
    assert_eq!(names("latents").len(), 1);
    assert_eq!(names("grids").len(), 2);
    let charts = ["speedup.png", "speedup.svg", "time.png", "time.svg"];
    assert_eq!(names("charts"), charts, "quality needs a second configuration");
    assert!(names("").contains(&"mine.txt".to_owned()));
}

#[test]
fn a_plan_that_changed_is_not_mixed_in() {
    let desk = Desk::new();
    let plan = |layer: &str| {
        let blocks = format!(r#"[{{ "blocks": "0", "{layer}": "fp8" }}]"#);
        let plan = format!(r#"{{ "version": 1, "name": "mine", "double": {blocks} }}"#);
        desk.file("mine.json", plan.as_bytes());
    };
    let which = ["--modes", "XL,mine.json", "--caches", "none"];
    plan("out");
    compare(&desk, &which).succeeds();
    let before = results(&desk, "results");
    plan("mlp_up");
    let answer = compare(&desk, &[which.as_slice(), &["--resume"]].concat());
    assert_eq!(answer.code, Some(2), "{}", answer.stderr);
    assert!(answer.stderr.contains("plan of mode mine.json"), "{}", answer.stderr);
    let after = results(&desk, "results");
    assert_eq!(
        after["configurations"][1]["pictures"], before["configurations"][1]["pictures"],
        "nothing was lost"
    );
    plan("out");
    compare(&desk, &[which.as_slice(), &["--resume"]].concat()).succeeds();
    assert_eq!(results(&desk, "results")["status"], "complete");
}

#[test]
fn a_quality_floor_finds_the_largest_thresholds_above_it() {
    let desk = Desk::new();
    let which = ["--modes", "XL", "--caches", "none,mine.toml", "--quality-floor", "50"];
    let answer = compare(&desk, &which);
    answer.succeeds();
    let found = results(&desk, "results");
    let floor = &found["floors"][0];
    let tried = floor["tried"].as_array().unwrap();
    let psnr = |of: &Value| of["psnr"].as_f64().unwrap();
    let threshold = |of: &Value| of["double"].as_f64().unwrap();
    let largest = |passes: bool, order: fn(f64, f64) -> f64| {
        let those = tried.iter().filter(|of| (psnr(of) >= 50.0) == passes).map(threshold);
        those.reduce(order).unwrap_or_else(|| panic!("none of both kinds in {floor}"))
    };
    let [kept, lost] = [largest(true, f64::max), largest(false, f64::min)];
    assert!(kept < lost && lost < 1.1 * kept, "{floor}");
    let compared = &found["configurations"][2];
    assert_eq!(compared["name"], "XL, floor 50 dB");
    let pictures = compared["pictures"].as_array().unwrap();
    assert_eq!(pictures.len(), 2);
    assert!(pictures.iter().all(|of| psnr(&of["quality"]) >= 50.0), "{compared}");
    assert!(pictures.iter().all(|of| of["cache"]["double"]["threshold"] == kept), "{compared}");
    // The flags that it names draw the same.
    let flags = floor["flags"].as_str().unwrap();
    assert_eq!(flags, format!("--cache mine.toml --cache-threshold {kept}"));
    assert!(answer.stdout.contains(flags), "{}", answer.stdout);
    let model = golden("dev").to_string_lossy().into_owned();
    let run = ["run", "--model", &model, "--prompt", "a fox", "--seed", "42", "--out", "one.png"];
    desk.call(run.into_iter().chain(SMALL).chain(flags.split(' '))).succeeds();
    let file = pictures[0]["file"].as_str().unwrap();
    assert_eq!(pixels(&desk, &format!("results/{file}")), pixels(&desk, "one.png"));
    // docs/results.md names every field and column.
    let documented = files::read_text(Path::new("docs/results.md")).unwrap();
    let table = files::read_text(&desk.path("results/results.csv")).unwrap();
    let columns = table.lines().next().unwrap().split(',').map(str::to_owned);
    for name in fields(&found).into_iter().chain(columns) {
        assert!(documented.contains(&format!("`{name}`")), "docs/results.md lacks `{name}`");
    }
    // What is known is not searched again.
    compare(&desk, &[which.as_slice(), &["--resume"]].concat()).succeeds();
    assert_eq!(results(&desk, "results")["configurations"], found["configurations"]);
    let wrong = ["--caches", "mine.toml", "--quality-floor", "50", "--out", "other"];
    compare(&desk, &wrong).fails(2, &["--quality-floor", "expected none among --caches"]);
    let wrong = ["--quality-floor", "100", "--out", "other"];
    compare(&desk, &wrong).fails(2, &["--quality-floor", "below 100"]);
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
        (
            vec!["--caches", "none,mine.toml,./mine.toml"],
            vec!["--caches", "found XL, ./mine.toml again"],
        ),
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
