//! The `flux-rt` program: verbs, flags, messages and exit codes.
//!
//! `args` declares the flags, `usage` reads them; one file a verb (`run`, `compare`, `bench`, `elastic`, `verify`,
//! `inspect`, `doctor`, `completions`); `job` is a checked `run`, `from` a picture that is repeated; `stream` is the only way out to the
//! terminal.

mod args;
mod bench;
mod cache_report;
mod compare;
mod completions;
mod doctor;
mod elastic;
mod from;
mod given;
mod inspect;
mod interrupt;
mod job;
mod output;
mod progress;
mod prompts;
mod record;
mod run;
mod stream;
mod usage;
mod verify;

use std::path::Path;
use std::process::ExitCode;

#[doc(hidden)]
pub use prompts::read_file as read_prompts;

use crate::cli::args::Command;
use crate::cli::args::ProgressStyle;
use crate::error::Error;
use crate::error::shortage;
use crate::files;

/// Runs the program with the process's arguments and returns its exit code.
pub fn main() -> ExitCode {
    let cli = match usage::parse() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    files::tell_of_cut_files(|page| {
        let hint =
            "try again when the file is complete; a copy or download may still be writing it";
        stream::error(&page.reason(), Some(hint), 3);
        3
    });
    let outcome = match cli.command {
        Command::Run(args) => {
            if args.output.progress == ProgressStyle::Json {
                stream::use_json_lines();
            }
            run::execute(*args)
        }
        Command::Compare(args) => {
            if args.output.progress == ProgressStyle::Json {
                stream::use_json_lines();
            }
            compare::execute(*args)
        }
        Command::Bench(args) => bench::execute(*args),
        Command::Elastic(args) => elastic::execute(args),
        Command::Verify(args) => {
            if args.output.progress == ProgressStyle::Json {
                stream::use_json_lines();
            }
            verify::execute(*args)
        }
        Command::Inspect(args) => inspect::execute(&args).map(|()| ExitCode::SUCCESS),
        Command::Doctor(args) => doctor::execute(&args),
        Command::Completions(args) => completions::execute(&args).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        let code = exit_code(&error);
        stream::error(&describe(&error), advice(&error).as_deref(), code);
        ExitCode::from(code)
    })
}

fn exit_code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(|cause| cause.downcast_ref::<Error>()).map_or(1, Error::exit_code)
}

/// The error and its causes in one line; options as the user writes them.
fn describe(error: &anyhow::Error) -> String {
    let causes = error.chain().map(|cause| match cause.downcast_ref::<Error>() {
        Some(Error::Request { field, reason }) => format!("{}: {reason}", usage::flag_of(field)),
        Some(Error::ModelNotFound { model, searched, .. }) => {
            format!("model `{model}` not found; {searched}")
        }
        Some(Error::OutOfMemory { needed, free, parts, .. }) => shortage(*needed, *free, parts),
        _ => cause.to_string(),
    });
    causes.collect::<Vec<_>>().join(": ")
}

/// Whether the user stopped it.
fn is_cancelled(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Error::Cancelled)))
}

/// Whether a file could not be written.
fn is_write(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Error::Write { .. })))
}

/// What the user can do about it, when the error itself does not say.
fn advice(error: &anyhow::Error) -> Option<String> {
    match error.chain().find_map(|cause| cause.downcast_ref::<Error>())? {
        Error::ModelNotFound { advice, .. } | Error::OutOfMemory { advice, .. } => {
            Some(advice.clone())
        }
        Error::Different { least_psnr: None, .. } => Some(
            "where only the device is another one, --min-psnr 40 accepts pictures that are as near"
                .into(),
        ),
        Error::Write { path, .. } if path == Path::new(stream::STDOUT) => None,
        Error::Write { .. } => {
            Some("choose another place with --out, or with the option that names it".into())
        }
        Error::Numeric { .. } => Some(
            "the weights may be damaged; `flux-rt inspect` shows them, --dtype f32 has more range"
                .into(),
        ),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_little_memory_is_an_error_with_a_hint() {
        let parts = vec![("weights", 33_000_000_000), ("VAE decoder", 2_000_000_000)];
        let advice = "decode in tiles with --vae-tiling".to_owned();
        let error =
            Error::OutOfMemory { needed: 35_000_000_000, free: 24_000_000_000, parts, advice };
        let error = anyhow::Error::from(error);
        assert_eq!(exit_code(&error), 5);
        assert_eq!(
            describe(&error),
            "expected 35.00 GB of free GPU memory, found 24.00 GB: weights 33.00 GB, VAE decoder \
             2.00 GB"
        );
        assert_eq!(super::advice(&error).as_deref(), Some("decode in tiles with --vae-tiling"));
    }
}
