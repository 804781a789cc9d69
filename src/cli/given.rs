//! Which options the user gave, by flag or variable, and how they were written: what was given beats
//! what a picture says, a default does not.

use std::collections::BTreeMap;

use clap::ArgMatches;
use clap::Command;
use clap::parser::ValueSource;

use crate::cli::stream::quoted;

/// The options that were given, by their names in clap, which are those of a picture's metadata.
#[derive(Debug, Clone, Default)]
pub(super) struct Given(BTreeMap<String, String>);

impl Given {
    /// Of the options of `command`.
    pub(super) fn new(matches: &ArgMatches, command: &Command) -> Self {
        let written = |arg: &clap::Arg| {
            let name = arg.get_id().as_str();
            let values = matches.get_raw(name).into_iter().flatten();
            let values: Vec<String> =
                values.map(|value| quoted(&value.to_string_lossy())).collect();
            let flag = arg.get_long()?;
            let text = match (matches.value_source(name)?, arg.get_env()) {
                (ValueSource::CommandLine, _) if arg.get_action().takes_values() => {
                    format!("--{flag} {}", values.join(" "))
                }
                (ValueSource::CommandLine, _) => format!("--{flag}"),
                (ValueSource::EnvVariable, Some(variable)) => {
                    format!("{}={}", variable.to_string_lossy(), values.join(" "))
                }
                _ => return None,
            };
            Some((name.to_owned(), text))
        };
        Self(command.get_arguments().filter_map(written).collect())
    }

    /// Takes back an option that another one made void.
    pub(super) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// The option as the user wrote it, if it was given.
    pub(super) fn written(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Those whose names start with `prefix`, as written.
    pub(super) fn all_written(&self, prefix: &str) -> String {
        let given = self.0.iter().filter(|(name, _)| name.starts_with(prefix));
        given.map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" ")
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::cli::args::Cli;

    #[test]
    fn what_was_given_is_known_as_it_was_written() {
        let words = "flux-rt run --seed 7 --vae-tiling --prompt";
        let words = words.split(' ').chain(["a fox", "b\x1b"]);
        let matches = Cli::command().try_get_matches_from(words).unwrap();
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        let given = Given::new(matches.subcommand_matches("run").unwrap(), run);
        assert_eq!(given.written("seed"), Some("--seed 7"));
        assert_eq!(given.written("vae_tiling"), Some("--vae-tiling"));
        assert_eq!(given.written("prompt"), Some(r#"--prompt "a fox" "b\u{1b}""#));
        assert_eq!(given.written("steps"), None);
        assert_eq!(given.all_written("se"), "--seed 7");
    }
}
