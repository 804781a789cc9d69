//! Ctrl-C.
#![cfg(unix)]

use std::io::BufRead as _;
use std::io::BufReader;
use std::io::Read as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::Desk;
use crate::small_args;

/// More pictures than anybody would wait for.
const ENDLESS: [&str; 6] = ["--prompt", "x", "--count", "100000", "--progress", "json"];

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// Waits until two pictures are saved and one more is being made.
fn wait_for_third(lines: &mut impl Iterator<Item = String>) {
    let third = lines.find(|line| line.contains(r#""event":"step","picture":3"#));
    assert!(third.is_some(), "the program ended before it was interrupted");
}

#[test]
fn the_first_ctrl_c_keeps_what_is_finished() {
    let desk = Desk::new();
    let mut args = small_args("dev", &ENDLESS);
    args.extend(["--json".to_owned(), "--save-latents".to_owned(), "l.safetensors".to_owned()]);
    let mut command = desk.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    wait_for_third(&mut lines);
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");

    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!(json["status"], "interrupted");
    let pictures = json["pictures"].as_array().unwrap();
    assert!(pictures.len() >= 2);
    for picture in pictures {
        assert!(desk.path(picture["path"].as_str().unwrap()).is_file());
    }
    let files = flux_rt::files::list(&desk.path("out")).unwrap();
    assert_eq!(files.len(), pictures.len(), "no half pictures: {files:?}");
    assert!(desk.path("l.safetensors").is_file());
    let said = format!("{} of 100000 pictures finished, in out", pictures.len());
    assert!(rest.iter().any(|line| line.contains(&said)), "no `{said}` in {rest:?}");
}

#[test]
fn the_second_ctrl_c_ends_at_once() {
    let desk = Desk::new();
    // Steps long enough for the second signal to come within one.
    let args = ["--prompt", "x", "--steps", "1000", "--width", "768", "--height", "768"];
    let model = crate::golden("dev");
    let start = ["run", "--model", &*model.to_string_lossy(), "--progress", "json"];
    let mut command = desk.command(start.into_iter().chain(args));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(r#""phase":"denoise""#)));
    interrupt(&child);
    assert!(lines.any(|line| line.contains("press Ctrl-C again")));
    interrupt(&child);
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert!(!desk.path("out").exists());
}

/// Starts the program, interrupts it in the first step of a picture and gives what it said from then on.
fn interrupted_at(desk: &Desk, args: &[&str], picture: usize) -> Vec<String> {
    let mut command = desk.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let step = format!(r#""event":"step","picture":{picture}"#);
    assert!(lines.any(|line| line.contains(&step)));
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    rest
}

#[test]
fn a_comparison_that_was_interrupted_goes_on() {
    let desk = Desk::new();
    let model = crate::golden("dev").to_string_lossy().into_owned();
    let start =
        ["compare", "--model", &model, "--progress", "json", "--prompt", "a fox", "a house"];
    desk.file("mine.toml", b"preset = \"aggressive\"\n");
    // The second configuration's first picture, behind a warm-up each, is the fifth.
    let which =
        ["--modes", "XL", "--caches", "none,mine.toml", "--width", "256", "--height", "256"];
    let args: Vec<&str> = start.into_iter().chain(which).collect();
    let rest = interrupted_at(&desk, &args, 5);
    assert!(rest.iter().any(|line| line.contains("--resume goes on")), "{rest:?}");
    let results = || -> Value {
        let text = flux_rt::files::read_text(&desk.path("results/results.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let before = results();
    assert_eq!(before["status"], "interrupted");
    assert_eq!(before["configurations"][0]["pictures"].as_array().unwrap().len(), 2);
    desk.call(args.into_iter().chain(["--resume"])).succeeds();
    let after = results();
    assert_eq!(after["status"], "complete");
    assert_eq!(after["configurations"][0], before["configurations"][0], "made again");
    assert_eq!(after["configurations"][1]["pictures"].as_array().unwrap().len(), 2);
}

#[test]
fn a_reference_that_was_interrupted_keeps_its_pictures() {
    let desk = Desk::new();
    let model = crate::golden("dev").to_string_lossy().into_owned();
    let start = ["compare", "--model", &model, "--progress", "json", "--prompt", "a fox", "a cat"];
    let which = ["--modes", "XL,S", "--caches", "none", "--width", "256", "--height", "256"];
    let args: Vec<&str> = start.into_iter().chain(which).collect();
    interrupted_at(&desk, &args, 3);
    let first = || -> Value {
        let text = flux_rt::files::read_text(&desk.path("results/results.json")).unwrap();
        let results: Value = serde_json::from_str(&text).unwrap();
        results["configurations"][0]["pictures"][0].clone()
    };
    let before = first();
    assert_eq!(before["seed"], 42);
    desk.call(args.into_iter().chain(["--resume"])).succeeds();
    assert_eq!(first(), before, "made again");
}

#[test]
fn a_verification_that_was_interrupted_says_so() {
    let desk = Desk::new();
    crate::receipts::picture(&desk, "a.png", r#"{"prompt":"x","steps":1000}"#);
    let model = crate::golden("dev").to_string_lossy().into_owned();
    let args = ["verify", "a.png", "--model", &model, "--progress", "json", "--json"];
    let mut command = desk.command(args);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains(r#""event":"step""#)));
    interrupt(&child);
    let rest: Vec<String> = lines.collect();
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    let json: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&json["status"], &json["psnr"]), (&"interrupted".into(), &().into()));
    assert!(rest.iter().any(|line| line.contains("nothing was compared")), "{rest:?}");
}
