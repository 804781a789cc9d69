//! `--cache` and its options, from flags and files to reports and metadata.

use flux_rt::cache::CacheRecord;
use flux_rt::files;
use flux_rt::pipeline::image::decode_png;
use flux_rt::pipeline::metadata::JSON_KEYWORD;
use flux_rt::pipeline::metadata::Metadata;
use serde_json::Value;

use crate::Answer;
use crate::Desk;
use crate::golden;

/// Twelve steps of a small picture.
fn run(desk: &Desk, args: &[&str]) -> Answer {
    let model = golden("dev").to_string_lossy().into_owned();
    let start = ["run", "--model", &model, "--device", "cpu", "--width", "48", "--height", "32"];
    let rest = ["--steps", "12", "--prompt", "x", "--overwrite", "--out", "a.png"];
    desk.call(start.iter().chain(&rest).chain(args).map(|arg| (*arg).to_owned()))
}

/// The lists of the only picture in the document.
fn lists(answer: &Answer) -> Value {
    answer.succeeds().json()["pictures"][0]["cache"]["lists"].clone()
}

fn cached(answer: &Answer, list: &str) -> Vec<u64> {
    let steps = lists(answer)[list]["cached_steps"].clone();
    steps.as_array().unwrap().iter().map(|step| step.as_u64().unwrap()).collect()
}

#[test]
fn the_report_counts_and_draws() {
    let desk = Desk::new();
    let answer = run(&desk, &["--cache", "aggressive", "--cache-replay", "8+10-11"]);
    answer.succeeds();
    for part in [
        "cache double wwwwwwww.#..\n",
        "cache single wwwwwwww.#..\n",
        "3 hits, 1 misses, 0 forced, 8 warmup; hits/compared 75.0 %, hits/steps 25.0 %",
        "tutorial's rate (double + 2 single) / 3: 75.0 %",
        "of the steps' time",
    ] {
        assert!(answer.stderr.contains(part), "no `{part}` in {}", answer.stderr);
    }
    let none = run(&desk, &[]);
    assert!(!none.stderr.contains("cache"), "{}", none.stderr);
    let skipped = run(&desk, &["--cache", "aggressive", "--cache-threshold", "0"]);
    assert!(skipped.stderr.contains("nothing skipped"), "{}", skipped.stderr);
}

#[test]
fn json_and_picture_carry_options_and_decisions() {
    let desk = Desk::new();
    let flags = ["--cache", "aggressive", "--cache-warmup", "2", "--cache-threshold", "single.1"];
    let answer = run(&desk, &[&flags[..], &["--json"]].concat());
    let picture = &answer.succeeds().json()["pictures"][0];
    let cache = &picture["cache"];
    assert_eq!((&cache["preset"], &cache["layout"]), (&"custom".into(), &"split-joint".into()));
    assert_eq!(cache["counting"], "legacy");
    assert_eq!((&cache["double"]["threshold"], &cache["double"]["fn"]), (&0.2.into(), &1.into()));
    assert_eq!(cache["single"]["threshold"], 1.0);
    assert_eq!(cache["single"]["max_continuous"], 10);
    let single = &cache["lists"]["single"];
    assert_eq!(single["cached_steps"].as_array().unwrap().len(), 10, "{single}");
    assert_eq!(single["residual_diffs"]["2"], -1.0);
    assert_eq!((&single["reasons"][0], &single["reasons"][2]), (&"warmup".into(), &"hit".into()));
    assert_eq!((&single["hits"], &single["warmup"]), (&10.into(), &2.into()));
    assert!(picture["saved_ms"].is_number());

    let path = desk.path("a.png");
    let (_, texts) = decode_png(&files::map(&path).unwrap(), &path).unwrap();
    let json = texts.iter().find(|(keyword, _)| keyword == JSON_KEYWORD).unwrap();
    let metadata = Metadata::from_json(&json.1, &path).unwrap();
    assert_eq!(metadata.cache, "custom");
    let record: CacheRecord = serde_json::from_value(cache.clone()).unwrap();
    assert_eq!(metadata.cache_record, Some(record));
    let shown = desk.call(["inspect", "a.png"]);
    assert!(shown.succeeds().stdout.contains("cached_steps"), "{}", shown.stdout);
}

#[test]
fn flags_file_and_preset_say_the_same() {
    let desk = Desk::new();
    desk.file(
        "cache.toml",
        b"preset = 'aggressive'\nlayout = 'split'\ncounting = 'streak'\nwarmup = 3\n\
          threshold = 1\n[double]\nmax_continuous = 2\n",
    );
    let from_file = run(&desk, &["--json", "--cache", "cache.toml"]);
    let flags = [
        "--json",
        "--cache",
        "aggressive",
        "--cache-layout",
        "split",
        "--cache-counting",
        "streak",
        "--cache-warmup",
        "3",
        "--cache-threshold",
        "1",
        "--cache-max-continuous",
        "double.2",
    ];
    let from_flags = run(&desk, &flags);
    let record = |answer: &Answer| answer.succeeds().json()["pictures"][0]["cache"].clone();
    assert_eq!(record(&from_file), record(&from_flags));
    assert_eq!(cached(&from_file, "double"), [3, 4, 6, 7, 9, 10]);
    assert_eq!(cached(&from_file, "single"), [3, 4, 5, 6, 7, 8, 9, 10, 11]);
    // A flag changes what a file says.
    let changed = run(&desk, &["--json", "--cache", "cache.toml", "--cache-warmup", "single.9"]);
    assert_eq!(cached(&changed, "single"), [9, 10, 11]);
    let unified =
        ["--json", "--cache", "aggressive", "--cache-layout", "unified", "--cache-threshold", "1"];
    assert_eq!(cached(&run(&desk, &unified), "all"), [8, 9, 10, 11]);
}

#[test]
fn a_mask_skips_without_a_comparison() {
    let desk = Desk::new();
    let mask = ["--cache-mask", "110100110111", "--cache-mask-policy", "static"];
    let answer = run(&desk, &[&["--json", "--cache", "aggressive"], &mask[..]].concat());
    assert_eq!(cached(&answer, "double"), [2, 4, 5, 8]);
    assert_eq!(lists(&answer)["double"]["residual_diffs"], serde_json::json!({}));
    let answer = run(&desk, &[&["--cache", "aggressive"], &mask[..]].concat());
    assert!(answer.stderr.contains("nothing compared"), "{}", answer.stderr);
}

#[test]
fn mistakes_are_refused_before_the_model_is_loaded() {
    let desk = Desk::new();
    desk.file("bad.toml", b"treshold = 0.1\n");
    for (args, parts) in [
        (vec!["--cache-fn", "4"], vec!["--cache", "conservative, aggressive or a .toml file"]),
        (vec!["--cache", "conservative"], vec!["--cache-fn", "the 2 blocks of the list `double`"]),
        (vec!["--cache", "bad.toml"], vec!["bad.toml", "treshold"]),
        (vec!["--cache", "missing.toml"], vec!["missing.toml: cannot be read"]),
        (vec!["--cache", "aggressive", "--cache-fn", "x"], vec!["--cache-fn", "a whole number"]),
        (vec!["--cache", "aggressive", "--cache-fn", "triple.1"], vec!["--cache-fn"]),
        (vec!["--cache", "aggressive", "--cache-layout", "joint"], vec!["split-joint"]),
        (vec!["--cache", "aggressive", "--cache-mask", "quick"], vec!["slow, medium, fast"]),
        (vec!["--cache", "aggressive", "--cache-mask", "fast"], vec!["20, 28 or 50 steps"]),
        (vec!["--cache", "aggressive", "--cache-replay", "9-8"], vec!["8-10+12"]),
        (vec!["--cache", "aggressive", "--cache-replay", "3"], vec!["--cache-replay"]),
        (vec!["--cache", "aggressive", "--cache-threshold", "-1"], vec!["--cache-threshold"]),
        (vec!["--cache", "aggressive", "--cache-max-cached", "-3"], vec!["-1 for no limit"]),
        (
            vec!["--cache", "aggressive", "--cache-fn", "18446744073709551615", "--cache-bn", "1"],
            vec!["--cache-fn"],
        ),
        (
            vec!["--cache", "aggressive", "--cache-max-accumulated", "nan"],
            vec!["--cache-max-accumulated", "-1 for no limit"],
        ),
        (vec!["--cache", "aggressive", "--cache-mask-policy", "static"], vec!["expected a mask"]),
    ] {
        let answer = run(&desk, &args);
        answer.fails(2, &parts);
        assert!(!desk.path("a.png").exists(), "{args:?}");
    }
}

/// The model says how many steps there are, and a mask or a replay may be meant for those.
#[test]
fn without_steps_the_models_count() {
    let desk = Desk::new();
    let model = golden("dev").to_string_lossy().into_owned();
    let small = ["run", "--model", &model, "--device", "cpu", "--width", "32", "--height", "32"];
    let rest = ["--prompt", "x", "--cache", "aggressive", "--json"];
    for flags in [["--cache-mask", "fast"], ["--cache-replay", "8-10"]] {
        desk.call(small.iter().chain(&rest).chain(&flags)).succeeds();
    }
    desk.call(small.iter().chain(&rest).chain(&["--cache-mask", "fast", "--steps", "7"]))
        .fails(2, &["20, 28 or 50 steps", "found 7"]);
}

#[test]
fn a_replay_past_a_limit_counts_as_hits_but_not_as_compared() {
    let desk = Desk::new();
    let flags = ["--cache-warmup", "2", "--cache-max-continuous", "2", "--cache-replay", "2-9"];
    let answer = run(&desk, &[&["--json", "--cache", "aggressive"], &flags[..]].concat());
    let double = &lists(&answer)["double"];
    assert_eq!(double["hits"], 8, "{double}");
    assert!(double["hits_per_compared"].as_f64().unwrap() <= 1.0, "{double}");
}

#[test]
fn a_cache_that_cannot_act_says_why() {
    let desk = Desk::new();
    let answer = run(&desk, &["--cache", "aggressive", "--cache-warmup", "12"]);
    let words = "nothing skipped: warmup or mask computes every step, see --cache-warmup";
    assert!(answer.succeeds().stderr.contains(words), "{}", answer.stderr);
    let answer = run(&desk, &["--cache", "aggressive", "--cache-threshold", "0"]);
    assert!(answer.stderr.contains("wwwwwwww----"), "{}", answer.stderr);
}

/// A picture does not depend on what was drawn before it.
#[test]
fn a_neighbour_changes_nothing() {
    let desk = Desk::new();
    let cache = ["--cache", "aggressive", "--cache-warmup", "2", "--cache-taylor-order", "1"];
    let model = golden("dev").to_string_lossy().into_owned();
    let start = ["run", "--model", &model, "--device", "cpu", "--width", "48", "--height", "32"];
    let pixels = |name: &str| {
        let path = desk.path(name);
        decode_png(&files::map(&path).unwrap(), &path).unwrap().0.data
    };
    let both = ["--steps", "12", "--prompt", "x", "y", "--seed", "5", "--out", "both"];
    desk.call(start.iter().chain(&both).chain(&cache)).succeeds();
    let alone = ["--steps", "12", "--prompt", "y", "--seed", "5", "--out", "alone.png"];
    desk.call(start.iter().chain(&alone).chain(&cache)).succeeds();
    assert_eq!(pixels("both/0002-y-s5.png"), pixels("alone.png"));
    let plain = ["--steps", "12", "--prompt", "y", "--seed", "5", "--out", "plain.png"];
    desk.call(start.iter().chain(&plain)).succeeds();
    assert_ne!(pixels("plain.png"), pixels("alone.png"), "the cache acts");
}
