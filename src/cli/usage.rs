//! Reading the command line: clap's errors with what this program can add, and flags over variables.

use std::process::ExitCode;

use clap::ArgMatches;
use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::error::ContextKind;
use clap::error::ContextValue;
use clap::error::ErrorKind;
use clap::parser::ValueSource;

use crate::cli::args::Cli;
use crate::cli::args::Command;
use crate::cli::args::RngName;
use crate::cli::args::RunArgs;
use crate::cli::given::Given;
use crate::cli::stream;
use crate::error::Error;

/// Reads the command line and the `FLUX_RT_*` variables.
///
/// # Errors
/// The exit code, after help, version or an error has been printed: 0, or 2 for wrong usage.
pub(super) fn parse() -> Result<Cli, ExitCode> {
    let parsed = Cli::command().try_get_matches().and_then(|matches| {
        let mut cli = Cli::from_arg_matches(&matches)?;
        let Some((verb, matches)) = matches.subcommand() else { return Ok(cli) };
        let command = Cli::command();
        let given = command.find_subcommand(verb).map(|command| Given::new(matches, command));
        match &mut cli.command {
            Command::Run(args) => {
                args.from.given = given.unwrap_or_default();
                prefer_flags(args, matches);
            }
            Command::Verify(args) => args.given = given.unwrap_or_default(),
            _ => {}
        }
        Ok(cli)
    });
    parsed.map_err(|error| {
        // A closed pipe is the only way that this fails, and then nobody reads the message.
        let _ = error.print();
        if let Some(hint) = hint(&error) {
            stream::hint(&hint);
        }
        if error.use_stderr() { usage_exit_code().into() } else { ExitCode::SUCCESS }
    })
}

/// The name that a user writes for a field of a request: `--width` for `width`.
pub(super) fn flag_of(field: &str) -> String {
    let command = Cli::command();
    let verbs = || command.get_subcommands();
    let all = verbs().chain(verbs().flat_map(clap::Command::get_subcommands));
    let known = all.flat_map(clap::Command::get_arguments).any(|arg| arg.get_long() == Some(field));
    if known { format!("--{field}") } else { field.to_owned() }
}

/// Whether `name` is a variable that sets an option.
pub(super) fn is_variable(name: &str) -> bool {
    let command = Cli::command();
    let run = command.find_subcommand("run");
    run.is_some_and(|run| run.get_arguments().any(|arg| arg.get_env() == Some(name.as_ref())))
}

fn usage_exit_code() -> u8 {
    Error::Request { field: "", reason: String::new() }.exit_code()
}

/// A flag makes a variable that excludes it void, as if that were not set.
fn prefer_flags(args: &mut RunArgs, matches: &ArgMatches) {
    let flag = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
    if flag("prompt") && !flag("prompt_file") {
        args.prompts.prompt_file = None;
        args.from.given.forget("prompt_file");
    }
    if flag("prompt_file") && !flag("prompt") {
        args.prompts.prompt.clear();
        args.from.given.forget("prompt");
    }
    if flag("rng") && !flag("rng_grid") && args.noise.rng.rng != RngName::TorchCuda {
        args.noise.rng.rng_grid = None;
        args.from.given.forget("rng_grid");
    }
}

/// What clap cannot know: a value that came from a variable, a prompt without its flag.
fn hint(error: &clap::Error) -> Option<String> {
    let Some(ContextValue::String(arg)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    match error.kind() {
        ErrorKind::UnknownArgument if !arg.starts_with('-') => {
            Some("a prompt goes after --prompt, in quotes".to_owned())
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let flag = arg.split(' ').next()?;
            let variable = format!("FLUX_RT_{}", flag.strip_prefix("--")?.replace('-', "_"));
            let variable = variable.to_ascii_uppercase();
            let on_line = std::env::args_os().any(|word| word.to_string_lossy().starts_with(flag));
            let from_variable = !on_line && std::env::var_os(&variable).is_some();
            from_variable.then(|| format!("the value comes from the variable {variable}"))
        }
        _ => None,
    }
}
