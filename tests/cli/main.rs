//! The program as its users meet it: the built binary, run in an empty folder.
#![expect(clippy::unwrap_used, reason = "a helper of a test may fail it")]

#[path = "../common/data.rs"]
mod data;

mod bench;
mod cache;
mod compare;
mod elastic;
mod faults;
mod help;
mod inspect;
mod interrupt;
mod machine;
mod max_vram;
mod mistakes;
mod outputs;
mod pictures;
mod plans;
mod receipts;
mod refused_receipts;
mod verify;

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;
use std::process::Output;
use std::process::Stdio;

use serde_json::Value;
use tempfile::TempDir;

/// A small picture in few steps.
const SMALL: [&str; 6] = ["--width", "48", "--height", "32", "--steps", "2"];

/// An empty folder to run the program in, gone at the end.
struct Desk {
    folder: TempDir,
}

/// What the program wrote, and its exit code.
struct Answer {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

impl Desk {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The program with `args`, none of the user's variables that change what it does or how it
    /// writes, and no Hugging Face cache.
    fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_flux-rt"));
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FLUX_RT_") {
                command.env_remove(name);
            }
        }
        let places = ["HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"];
        for name in places.into_iter().chain(["CLICOLOR_FORCE", "NO_COLOR", "COLUMNS"]) {
            command.env_remove(name);
        }
        // Where there is a GPU: the program must say the same there.
        command.env("CUDA_VISIBLE_DEVICES", "");
        command.env("HOME", self.folder.path()).current_dir(self.folder.path());
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Runs the program to its end.
    fn call<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Answer {
        self.command(args).output().unwrap().into()
    }

    /// Runs it with `input` on stdin.
    fn call_with(&self, input: &str, args: &[&str]) -> Answer {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap().into()
    }

    /// `run` of a golden model with a small picture.
    fn small_run(&self, model: &str, args: &[&str]) -> Answer {
        self.call(small_args(model, args))
    }

    /// Writes a file.
    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.path(name);
        flux_rt::files::write_atomic(&path, content).unwrap();
        path
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }
}

impl Answer {
    /// The exit code must be `code`, and stderr must hold all of `parts`.
    #[track_caller]
    fn fails(&self, code: i32, parts: &[&str]) {
        self.ends_early(code, parts);
        assert_eq!(self.stdout, "", "errors leave stdout empty");
    }

    /// As [`Self::fails`], for what was begun and written to stdout before.
    #[track_caller]
    fn ends_early(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.stderr);
        for part in parts {
            assert!(self.stderr.contains(part), "no `{part}` in: {}", self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
    }

    #[track_caller]
    fn succeeds(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap()
    }
}

/// The arguments of a small `run` of a golden model.
fn small_args(model: &str, args: &[&str]) -> Vec<String> {
    let model = golden(model).to_string_lossy().into_owned();
    let start = ["run", "--model", &model].into_iter().chain(SMALL);
    start.chain(args.iter().copied()).map(String::from).collect()
}

/// A model made for tests: `dev` or `schnell`.
fn golden(name: &str) -> PathBuf {
    data::path("tests/goldens").join(name)
}
