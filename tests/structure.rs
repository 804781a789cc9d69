//! The layout's rules: layers import downwards only, every op has all its files, files stay small.
#![expect(clippy::panic, clippy::unwrap_used, reason = "a helper of a test may fail it")]

use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;

/// Layers from the bottom up; a module imports from itself and from those before it.
const LAYERS: [&str; 11] = [
    "error", "files", "device", "ops", "model", "elastic", "cache", "pipeline", "ffi", "report",
    "cli",
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder` with this extension, sorted.
fn files(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path, extension));
        } else if path.extension().is_some_and(|found| found == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[expect(clippy::disallowed_methods, reason = "a test reads the sources as they are")]
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

/// The names of the ops: the stems of a folder's files, or its folders, without `mod` and `main`.
fn stems(folder: &str) -> BTreeSet<String> {
    let folder = root().join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|_| panic!("{folder:?}"));
    entries
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .filter(|stem| !["mod", "main", "common", "cpu", "cuda"].contains(&stem.as_str()))
        .collect()
}

#[test]
fn layers_import_downwards_only() {
    let source = root().join("src");
    for path in files(&source, "rs") {
        let relative = path.strip_prefix(&source).unwrap();
        let module = relative.iter().next().unwrap().to_string_lossy().replace(".rs", "");
        if ["lib", "main"].contains(&module.as_str()) {
            continue;
        }
        let level = LAYERS.iter().position(|&layer| layer == module);
        let level = level.unwrap_or_else(|| panic!("src/{module} is in no layer"));
        for (number, line) in text(&path).lines().enumerate() {
            let line = line.trim();
            let place = format!("{}:{}", relative.display(), number + 1);
            assert!(!line.contains("super::super"), "{place}: write use crate::...");
            assert!(!line.starts_with("use crate::{"), "{place}: one path a line");
            let Some(path) = line.strip_prefix("use crate::") else { continue };
            let imported = path.split([':', ';', ' ']).next().unwrap();
            let imported =
                if imported.starts_with(char::is_uppercase) { "error" } else { imported };
            let imported = LAYERS.iter().position(|&layer| layer == imported);
            assert!(
                imported.is_some_and(|imported| imported <= level),
                "{place}: {module} imports upwards: {line}"
            );
        }
    }
}

#[test]
fn every_op_has_its_oracle_test_and_bench() {
    let ops = stems("src/ops");
    assert!(ops.contains("gemm"), "the glob finds the ops");
    for folder in ["src/ops/cpu", "tests/ops", "benches/ops"] {
        assert_eq!(stems(folder), ops, "{folder} and src/ops differ");
    }
    let mut launchers = stems("src/ops/cuda");
    assert!(launchers.remove("tile"), "the tuning table of the matrix kernels is no op's");
    assert_eq!(launchers, ops, "src/ops/cuda and src/ops differ");
    let kernels = stems("kernels");
    let portable = kernels
        .iter()
        .filter(|stem| !["_sm89", "_sm90"].iter().any(|tier| stem.ends_with(tier)))
        .cloned();
    assert_eq!(portable.collect::<BTreeSet<_>>(), ops, "kernels and src/ops differ");
}

fn is_of_word(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_'
}

/// Whether this ends with what comes before a call of the driver: the macro and its first argument.
fn ends_in_call(before: &str) -> bool {
    let of_path = |letter: char| letter == '.' || is_of_word(letter);
    let argument = before.trim_end().strip_suffix(',');
    argument.is_some_and(|text| text.trim_end_matches(of_path).trim_end().ends_with("call!("))
}

#[test]
fn the_driver_is_called_through_one_macro() {
    let source = root().join("src");
    let mut calls = 0;
    for path in files(&source, "rs") {
        let relative = path.strip_prefix(&source).unwrap();
        if relative == Path::new("device/cuda/driver.rs") {
            continue;
        }
        let text = text(&path);
        let code: Vec<&str> = text.lines().map(|line| line.split("//").next().unwrap()).collect();
        let code = code.join("\n");
        for (at, name) in code.match_indices("cudarc") {
            // Not `cudarc::driver::result` nor `safe`, which call the driver themselves.
            let types = code[at + name.len()..].strip_prefix("::driver::sys");
            let types = types.is_some_and(|rest| rest.starts_with(';') || rest.starts_with("::CU"));
            assert!(types, "{}: of cudarc only the types of sys", relative.display());
        }
        for (at, _) in code.match_indices("cu") {
            let (before, name) = code.split_at(at);
            let inside_a_word = before.ends_with(is_of_word);
            if inside_a_word || !name[2..].starts_with(char::is_uppercase) {
                continue;
            }
            let (name, after) = name.split_at(name.find(|letter| !is_of_word(letter)).unwrap());
            let place = format!("{}: {name}", relative.display());
            assert!(!before.ends_with("::"), "{place}: write call!(driver, {name}(...))");
            if after.trim_start().starts_with('(') {
                assert!(ends_in_call(before), "{place}: write call!(driver, {name}(...))");
                calls += 1;
            }
        }
    }
    assert!(calls > 40, "the search finds the calls: {calls}");
}

#[test]
fn files_stay_small_and_say_what_they_are() {
    for folder in ["src", "tests", "benches"] {
        for path in files(&root().join(folder), "rs") {
            let text = text(&path);
            let model = path.starts_with(root().join("src/model"));
            let limit = if model { 250 } else { 400 };
            let lines = text.lines().count();
            assert!(lines <= limit, "{}: {lines} lines, at most {limit}", path.display());
            assert!(text.starts_with("//! "), "{}: no first line that says what", path.display());
        }
    }
    for path in files(&root().join("kernels"), "cu") {
        let text = text(&path);
        let opens = text.starts_with("/*") || text.starts_with("//");
        assert!(opens, "{}: no opening comment", path.display());
    }
}

#[test]
fn no_vague_file_names() {
    for path in files(&root().join("src"), "rs") {
        let stem = path.file_stem().unwrap().to_string_lossy().into_owned();
        let vague = ["utils", "util", "helpers", "misc", "common"].contains(&stem.as_str());
        assert!(!vague && !stem.ends_with("_new"), "{}", path.display());
        assert!(!stem.contains("_v2"), "{}", path.display());
    }
}
