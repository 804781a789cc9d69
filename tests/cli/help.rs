//! Help, version and completions.

use crate::Desk;

#[test]
fn every_verb_explains_itself() {
    let desk = Desk::new();
    for verb in ["run", "compare", "bench", "elastic", "verify", "inspect", "doctor", "completions"]
    {
        for flag in ["-h", "--help"] {
            let answer = desk.call([verb, flag]);
            answer.succeeds();
            assert!(answer.stdout.contains(&format!("Usage: flux-rt {verb}")), "{}", answer.stdout);
            assert_eq!(answer.stderr, "");
        }
    }
    let answer = desk.call(["--help"]);
    for part in ["run", "compare", "bench", "elastic", "verify", "inspect", "doctor", "Exit codes"]
    {
        assert!(answer.stdout.contains(part), "{}", answer.stdout);
    }
}

#[test]
fn the_help_of_run_has_every_flag_of_the_contract() {
    let answer = Desk::new().call(["run", "--help"]);
    for flag in "from model prompt prompt-file width height steps guidance seed count \
                 max-sequence-length vae-tiling mode cache rng rng-grid latents dtype device out \
                 save-latents json progress max-vram"
        .split_whitespace()
    {
        assert!(answer.stdout.contains(&format!("--{flag}")), "--{flag}");
    }
    for line in answer.stdout.lines() {
        assert!(line.chars().count() <= 100, "too long: {line}");
    }
}

#[test]
fn the_version_is_the_crates() {
    let answer = Desk::new().call(["--version"]);
    assert_eq!(answer.stdout, format!("flux-rt {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn without_a_verb_there_is_help_and_exit_code_2() {
    Desk::new().call::<&str>([]).fails(2, &["Usage: flux-rt <COMMAND>", "Make pictures"]);
}

#[test]
fn every_shell_gets_its_completions() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let answer = desk.call(["completions", shell]);
        answer.succeeds();
        assert!(answer.stdout.contains("save-latents"), "{shell}");
        assert_eq!(answer.stderr, "");
    }
    desk.call(["completions", "tcsh"]).fails(2, &["tcsh", "bash"]);
}
