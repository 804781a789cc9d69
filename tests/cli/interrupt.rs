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
