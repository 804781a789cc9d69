//! What is made before the compiler runs: the table of the demo model's files (`build/demo.rs`),
//! and PTX from `kernels/` (`build/kernels.rs`) with an nvcc that `build/toolkit.rs` finds.

#[path = "build/demo.rs"]
mod demo;
#[path = "build/kernels.rs"]
mod kernels;
#[path = "build/toolkit.rs"]
mod toolkit;

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;
use std::process::ExitCode;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    // The system takes no other library for the shared one; the 0 is raised when programs must be linked anew.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libflux_rt.so.0");
    }
    match demo::embed().and_then(|()| kernels::embed()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Writes a file, unless it is already so: what has not changed keeps its time.
#[expect(clippy::disallowed_methods, reason = "src/files.rs is not there yet when this runs")]
fn write(path: &Path, text: &str) -> Result<()> {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    fs::write(path, text).map_err(|error| at(path, &error))
}

#[expect(clippy::disallowed_methods, reason = "src/files.rs is not there yet when this runs")]
fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|error| at(path, &error))
}

/// An error that names its path.
fn at(path: &Path, error: &io::Error) -> Box<dyn Error> {
    format!("{}: {error}", path.display()).into()
}
