//! Loading of models: whole folders and single files against `tests/goldens` (written by the
//! reference libraries), and files with every kind of damage.

#![expect(clippy::unwrap_used, clippy::panic, reason = "tests fail so, in their helpers too")]

mod bfl;
mod configs;
mod damage;
#[path = "../common/data.rs"]
mod data;
mod encoders;
mod folders;
mod fp8;
mod single_files;
mod sources;
mod writer;

use std::path::PathBuf;

fn goldens() -> PathBuf {
    data::path("tests/goldens")
}
