//! What goes to which stream.

use std::io::Read as _;
use std::process::Stdio;

use serde_json::Value;

use crate::Answer;
use crate::Desk;
use crate::small_args;

#[test]
fn stdout_carries_paths_only() {
    let desk = Desk::new();
    for progress in ["auto", "bar", "json", "none"] {
        let args = ["--prompt", "x", "--progress", progress, "--cache", "aggressive"];
        let answer = desk.small_run("dev", &args);
        assert_eq!(answer.succeeds().stdout.lines().count(), 1, "{progress}: {}", answer.stdout);
        assert!(desk.path(answer.stdout.trim_end()).is_file(), "{progress}");
        assert!(!answer.stderr.contains('\x1b') || progress == "bar", "{}", answer.stderr);
    }
}

#[test]
fn json_progress_is_one_object_a_line() {
    let desk = Desk::new();
    let args = ["--prompt", "x", "--progress", "json", "--mode", "original"];
    let answer = desk.small_run("dev", &args);
    answer.succeeds();
    let events: Vec<Value> =
        answer.stderr.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = |kind: &str| events.iter().filter(|event| event["event"] == kind).count();
    assert_eq!((count("load"), count("loaded"), count("picture"), count("saved")), (1, 1, 1, 1));
    assert_eq!((count("phase"), count("step")), (4, 2));
    assert!(count("note") >= 1);
    let last_step = events.iter().rfind(|event| event["event"] == "step").unwrap();
    assert_eq!((&last_step["done"], &last_step["steps"]), (&2.into(), &2.into()));
}

#[test]
fn no_progress_means_none() {
    let desk = Desk::new();
    let answer = desk.small_run("dev", &["--prompt", "x", "--progress", "none"]);
    assert_eq!(answer.succeeds().stderr, "");
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let desk = Desk::new();
    for args in [
        vec!["completions".to_owned(), "zsh".to_owned()],
        vec!["doctor".to_owned()],
        small_args("dev", &["--prompt", "x", "--json"]),
        small_args("dev", &["--prompt", "x", "y"]),
    ] {
        let mut command = desk.command(&args);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let code = child.wait().unwrap().code();
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        assert!(code.is_some_and(|code| code != 101), "{args:?}: {code:?}");
    }
    assert!(desk.path("out/0003-y-s0.png").is_file(), "pictures are made all the same");
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_under_stdout_is_an_error() {
    let desk = Desk::new();
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = desk.command(["completions", "bash"]).stdout(full).output().unwrap();
    Answer::from(output).fails(8, &["cannot write standard output"]);
}
