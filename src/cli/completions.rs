//! `flux-rt completions SHELL`.

use anyhow::Result;
use clap::CommandFactory as _;

use crate::cli::args::Cli;
use crate::cli::args::CompletionsArgs;
use crate::cli::stream;

/// Prints the completion script.
///
/// # Errors
/// When stdout cannot be written.
pub(super) fn execute(args: &CompletionsArgs) -> Result<()> {
    // Into memory first: clap_complete panics when its writer fails, as a closed pipe does.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "flux-rt", &mut script);
    Ok(stream::result(&String::from_utf8_lossy(&script))?)
}
