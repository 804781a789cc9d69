//! The options as a TOML file: what `--cache FILE.toml` reads.
//!
//! ```toml
//! preset = "conservative"     # what the rest is taken from; without it cache-dit's defaults
//! layout = "split"
//! counting = "streak"
//! threshold = 0.08            # of both lists
//!
//! [single]
//! threshold = 0.16
//! ```

use std::path::Path;

use serde::Deserialize;

use crate::cache::CacheOptions;
use crate::cache::Changes;
use crate::cache::Counting;
use crate::cache::Layout;
use crate::cache::ListChanges;
use crate::cache::Preset;
use crate::cache::RoundingChoice;
use crate::error::Error;
use crate::error::Result;
use crate::files;

/// Of a file: a TOML value takes some 60 times as much memory. One with every key is 1 kB long.
const MOST_BYTES: usize = 64 << 10;

/// The keys that are not about both lists alike.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Own {
    preset: Option<Preset>,
    layout: Option<Layout>,
    counting: Option<Counting>,
    rounding: Option<RoundingChoice>,
    double: ListChanges,
    single: ListChanges,
}

impl Own {
    const KEYS: [&str; 6] = ["preset", "layout", "counting", "rounding", "double", "single"];
}

/// Reads the options in a file; none if it says that nothing is cached.
///
/// # Errors
/// [`Error::Request`] if the file cannot be read; as [`parse`].
pub fn read(path: &Path) -> Result<Option<CacheOptions>> {
    let text = files::read_text_up_to(path, MOST_BYTES).map_err(|error| match error {
        Error::Read { source, .. } => refused(path, &format!("cannot be read: {source}")),
        other => refused(path, &other.to_string()),
    })?;
    parse(&text, path)
}

/// The options in the text of a file; `path` is for messages.
///
/// # Errors
/// [`Error::Request`] naming file, line or key and what was expected.
pub fn parse(text: &str, path: &Path) -> Result<Option<CacheOptions>> {
    let damaged = |error: toml::de::Error| refused(path, error.to_string().trim_end());
    let table: toml::Table = text.parse().map_err(damaged)?;
    // Taken apart before it is read, so that a misspelt key is found.
    let (own, both): (toml::Table, toml::Table) =
        table.into_iter().partition(|(key, _)| Own::KEYS.contains(&key.as_str()));
    let both: ListChanges = both.try_into().map_err(damaged)?;
    let Own { preset, layout, counting, rounding, double, single } =
        own.try_into().map_err(damaged)?;
    let mut options = match preset {
        None => CacheOptions::default(),
        Some(preset) => match preset.options() {
            None => return Ok(None),
            Some(options) => options,
        },
    };
    let changes = Changes { layout, counting, rounding, both, double, single };
    let checked = changes.apply(&mut options).and_then(|()| options.check());
    checked.map_err(|error| refused(path, &error.to_string()))?;
    Ok(Some(options))
}

/// What a file says that cannot be.
fn refused(path: &Path, reason: &str) -> Error {
    Error::Request { field: "cache", reason: format!("{}: {reason}", path.display()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Option<CacheOptions>> {
        parse(text, Path::new("cache.toml"))
    }

    #[test]
    fn a_file_changes_a_preset() {
        let text = "preset = 'conservative'\nlayout = 'split'\nthreshold = 0.08\nmax_cached = 5\n\
                    mask = 'fast'\n[single]\nthreshold = 0.16\nmax_continuous = -1";
        let options = parsed(text).unwrap().unwrap();
        assert_eq!((options.layout, options.counting), (Layout::Split, Counting::Legacy));
        let (double, single) = (options.double, options.single);
        assert_eq!((double.fn_blocks, double.threshold, single.threshold), (4, 0.08, 0.16));
        assert_eq!((double.max_continuous, single.max_continuous), (Some(3), None));
        assert_eq!((double.max_cached, single.max_cached), (Some(5), Some(5)));
        assert_eq!(double.mask.map(|mask| mask.to_string()).as_deref(), Some("fast"));
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        assert_eq!(parsed("").unwrap(), Some(CacheOptions::default()));
        assert_eq!(parsed("preset = 'none'").unwrap(), None);
    }

    #[test]
    fn mistakes_are_named() {
        for (text, part) in [
            ("treshold = 1", "treshold"),
            ("[single]\nfirst = 1", "first"),
            ("fn = 'x'", "fn"),
            ("mask = 'quick'", "slow, medium, fast, ultra"),
            ("layout = 'joint'", "split-joint"),
            ("max_cached = -2", "-1 for no limit"),
            ("threshold = ", "line 1"),
            ("preset = 'agressive'", "aggressive"),
            ("threshold = -1", "cache.toml: cache-threshold: expected a number from 0 on"),
            ("max_accumulated = -0.5", "-1 for no limit"),
            ("mask_policy = 'static'", "expected a mask"),
        ] {
            let error = parsed(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
