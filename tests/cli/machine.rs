//! `doctor`.

use crate::Desk;

#[test]
fn doctor_tells_programs_what_it_tells_people() {
    let desk = Desk::new();
    let people = desk.call(["doctor"]);
    let programs = desk.call(["doctor", "--json"]);
    assert_eq!(people.code, programs.code);
    let json = programs.json();
    assert_eq!(json["ok"], programs.code == Some(0));
    assert_eq!(json["program"]["version"], env!("CARGO_PKG_VERSION"));
    assert!(json["processor"]["cores"].as_u64().unwrap() >= 1);
    assert_eq!(json["output"]["ok"], true);
    assert_eq!(json["gpu"]["usable"], false, "the desk hides GPUs");
    assert!(people.stdout.contains("pictures are made on the CPU: cuda:0: "), "{}", people.stdout);
    let kernels = json["gpu"]["cuda_build"].as_bool().unwrap();
    assert_eq!(people.stdout.contains("kernels made by nvcc "), kernels, "{}", people.stdout);
    assert!(people.stdout.contains(".cache/huggingface/hub: not there"), "{}", people.stdout);
    assert!(!desk.path("out").exists(), "doctor leaves nothing behind");
}

#[test]
fn doctor_fails_where_run_would() {
    let desk = Desk::new();
    desk.file("out", b"in the way");
    let answer = desk.call(["doctor", "--json"]);
    assert_ne!(answer.code, Some(0));
    let json = answer.json();
    assert_eq!(json["ok"], false);
    assert_eq!(json["output"]["ok"], false);
    assert!(answer.stderr.contains("would not work here"), "{}", answer.stderr);
}

#[test]
fn doctor_shows_the_variables_that_are_set() {
    let desk = Desk::new();
    let mut command = desk.command(["doctor"]);
    let output = command.env("FLUX_RT_STEPS", "4").env("FLUX_RT_WIDHT", "64").output().unwrap();
    let answer = crate::Answer::from(output);
    assert!(answer.stdout.contains("FLUX_RT_STEPS=4\n"), "{}", answer.stdout);
    assert!(answer.stdout.contains("FLUX_RT_WIDHT=64 (not a variable"), "{}", answer.stdout);
}
