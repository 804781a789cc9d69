//! The flags of the step cache.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use anyhow::Result;
use clap::Args;
use clap::ValueHint;
use clap::builder::PossibleValue;
use clap::builder::TypedValueParser;

use crate::cache::CacheOptions;
use crate::cache::Changes;
use crate::cache::Counting;
use crate::cache::Layout;
use crate::cache::ListChanges;
use crate::cache::Mask;
use crate::cache::MaskPolicy;
use crate::cache::Preset;
use crate::cache::RoundingChoice;
use crate::cache::file;
use crate::cli::args::reason;
use crate::error::Error;
use crate::model::closest::closest;

#[derive(Debug, Args)]
pub(in crate::cli) struct CacheArgs {
    /// Skip blocks whose input hardly changed since the last computed step: none, conservative,
    /// aggressive, or a FILE.toml with the options below
    #[arg(long, value_name = "CACHE", default_value = "none", env = "FLUX_RT_CACHE")]
    #[arg(hide_env = true, hide_possible_values = true, value_hint = ValueHint::FilePath)]
    #[arg(value_parser = NameParser)]
    cache: CacheName,
    /// Which blocks decide together: split-joint, split or unified
    #[arg(long, value_name = "LAYOUT", env = "FLUX_RT_CACHE_LAYOUT", hide_env = true)]
    #[arg(value_parser = word::<Layout>)]
    cache_layout: Option<Layout>,
    /// How hits in a row are counted: legacy (cache-dit before 1.5.3) or streak
    #[arg(long, value_name = "RULE", env = "FLUX_RT_CACHE_COUNTING", hide_env = true)]
    #[arg(value_parser = word::<Counting>)]
    cache_counting: Option<Counting>,
    /// Where the comparison rounds: auto, bf16 or f32
    #[arg(long, value_name = "DTYPE", env = "FLUX_RT_CACHE_ROUNDING", hide_env = true)]
    #[arg(value_parser = word::<RoundingChoice>)]
    cache_rounding: Option<RoundingChoice>,
    /// Blocks at the start of a list that every step computes; 4, or double.4,single.8
    #[arg(long, value_name = "N", env = "FLUX_RT_CACHE_FN", hide_env = true)]
    #[arg(value_delimiter = ',')]
    cache_fn: Vec<PerList<Number>>,
    /// Blocks at the end of a list that every step computes
    #[arg(long, value_name = "N", env = "FLUX_RT_CACHE_BN", hide_env = true)]
    #[arg(value_delimiter = ',')]
    cache_bn: Vec<PerList<Number>>,
    /// Skip where the relative difference is below this; 0.08, or single.0.16
    #[arg(long, value_name = "X", env = "FLUX_RT_CACHE_THRESHOLD", hide_env = true)]
    #[arg(value_delimiter = ',', allow_hyphen_values = true)]
    cache_threshold: Vec<PerList<Real>>,
    /// Steps at the start that are computed
    #[arg(long, value_name = "STEPS", env = "FLUX_RT_CACHE_WARMUP", hide_env = true)]
    #[arg(value_delimiter = ',')]
    cache_warmup: Vec<PerList<Number>>,
    /// Only every N-th step of the warmup is computed always
    #[arg(long, value_name = "N", env = "FLUX_RT_CACHE_WARMUP_INTERVAL", hide_env = true)]
    #[arg(value_delimiter = ',')]
    cache_warmup_interval: Vec<PerList<Number>>,
    /// Most skipped steps of a picture; -1 is no limit
    #[arg(long, value_name = "STEPS", env = "FLUX_RT_CACHE_MAX_CACHED", hide_env = true)]
    #[arg(value_delimiter = ',', allow_hyphen_values = true)]
    cache_max_cached: Vec<PerList<Limit>>,
    /// Most skipped steps in a row; -1 is no limit
    #[arg(long, value_name = "STEPS", env = "FLUX_RT_CACHE_MAX_CONTINUOUS", hide_env = true)]
    #[arg(value_delimiter = ',', allow_hyphen_values = true)]
    cache_max_continuous: Vec<PerList<Limit>>,
    /// Skip no more once the differences add up to this; -1 is no limit
    #[arg(long, value_name = "X", env = "FLUX_RT_CACHE_MAX_ACCUMULATED", hide_env = true)]
    #[arg(value_delimiter = ',', allow_hyphen_values = true)]
    cache_max_accumulated: Vec<PerList<Real>>,
    /// Steps that are computed always: slow, medium, fast, ultra, or a 0 or 1 for each step
    #[arg(long, value_name = "MASK", env = "FLUX_RT_CACHE_MASK", hide_env = true)]
    #[arg(value_delimiter = ',')]
    cache_mask: Vec<PerList<Steps>>,
    /// The other steps: dynamic (compared) or static (skipped)
    #[arg(long, value_name = "POLICY", env = "FLUX_RT_CACHE_MASK_POLICY", hide_env = true)]
    #[arg(value_delimiter = ',')]
    cache_mask_policy: Vec<PerList<Policy>>,
    /// Forecast the skipped blocks' effect (TaylorSeer): 0 reuses the last one, 1 or 2 is the order
    #[arg(long, value_name = "N", env = "FLUX_RT_CACHE_TAYLOR_ORDER", hide_env = true)]
    #[arg(value_delimiter = ',')]
    cache_taylor_order: Vec<PerList<Number>>,
    /// Skip exactly these steps, as 8-10+12, whatever the comparison says, which still runs
    #[arg(long, value_name = "STEPS", env = "FLUX_RT_CACHE_REPLAY", hide_env = true)]
    #[arg(value_delimiter = ',')]
    cache_replay: Vec<PerList<Hits>>,
}

impl CacheArgs {
    /// The options that the flags mean together; none if nothing is cached.
    ///
    /// # Errors
    /// [`Error::Request`] for a flag without a cache; those of reading a file.
    pub(in crate::cli) fn options(self) -> Result<Option<CacheOptions>> {
        let base = self.cache.options()?;
        self.changed(base)
    }

    /// As [`Self::options`], of a cache that is told elsewhere than by `--cache`.
    ///
    /// # Errors
    /// [`Error::Request`] for a flag without a cache.
    pub(in crate::cli) fn changed(
        self,
        base: Option<CacheOptions>,
    ) -> Result<Option<CacheOptions>> {
        let changes = self.changes();
        match base {
            Some(mut options) => {
                changes.apply(&mut options)?;
                Ok(Some(options))
            }
            None if changes == Changes::default() => Ok(None),
            None => Err(Error::Request {
                field: "cache",
                reason: "expected conservative, aggressive or a .toml file for the other cache \
                         options (or variables FLUX_RT_CACHE_...) to change, found none"
                    .into(),
            }
            .into()),
        }
    }

    fn changes(self) -> Changes {
        let mut changes = Changes {
            layout: self.cache_layout,
            counting: self.cache_counting,
            rounding: self.cache_rounding,
            ..Changes::default()
        };
        changes.take(self.cache_fn, |list, value| list.fn_blocks = Some(value.0));
        changes.take(self.cache_bn, |list, value| list.bn_blocks = Some(value.0));
        changes.take(self.cache_threshold, |list, value| list.threshold = Some(value.0));
        changes.take(self.cache_warmup, |list, value| list.warmup = Some(value.0));
        changes.take(self.cache_warmup_interval, |list, value| {
            list.warmup_interval = Some(value.0);
        });
        changes.take(self.cache_max_cached, |list, value| list.max_cached = Some(value.0));
        changes.take(self.cache_max_continuous, |list, value| {
            list.max_continuous = Some(value.0);
        });
        changes.take(self.cache_max_accumulated, |list, value| {
            list.max_accumulated = Some(value.0);
        });
        changes.take(self.cache_mask, |list, value| list.mask = Some(value.0));
        changes.take(self.cache_mask_policy, |list, value| list.mask_policy = Some(value.0));
        changes.take(self.cache_taylor_order, |list, value| list.taylor_order = Some(value.0));
        changes.take(self.cache_replay, |list, value| list.replay = Some(value.0));
        changes
    }
}

impl Changes {
    /// Sets an option in the lists that its values name; of two for one list the last counts.
    fn take<T>(&mut self, values: Vec<PerList<T>>, set: impl Fn(&mut ListChanges, T)) {
        for PerList { list, value } in values {
            let list = match list {
                None => &mut self.both,
                Some(List::Double) => &mut self.double,
                Some(List::Single) => &mut self.single,
            };
            set(list, value);
        }
    }
}

/// What `--cache` names.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::cli) enum CacheName {
    /// By name.
    Preset(Preset),
    /// A TOML file.
    File(PathBuf),
}

impl CacheName {
    /// The options that it means; none if nothing is cached.
    ///
    /// # Errors
    /// Those of reading a file.
    pub(in crate::cli) fn options(&self) -> crate::error::Result<Option<CacheOptions>> {
        match self {
            Self::Preset(preset) => Ok(preset.options()),
            Self::File(path) => file::read(path),
        }
    }
}

impl fmt::Display for CacheName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Preset(preset) => preset.fmt(formatter),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

impl FromStr for CacheName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.to_ascii_lowercase().ends_with(".toml") {
            return Ok(Self::File(text.into()));
        }
        text.parse().map(Self::Preset).map_err(|error: Error| {
            let near = closest(text, Preset::NAMES);
            let hint = near.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
            format!("{}{hint}", reason(error))
        })
    }
}

/// Knows the presets, for completions.
#[derive(Debug, Clone)]
pub(in crate::cli) struct NameParser;

impl TypedValueParser for NameParser {
    type Value = CacheName;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<CacheName, clap::Error> {
        let parser = |text: &str| text.parse::<CacheName>();
        TypedValueParser::parse_ref(&parser, command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Preset::NAMES.into_iter().map(PossibleValue::new)))
    }
}

/// A block list that a value is for.
#[derive(Debug, Clone, Copy)]
enum List {
    Double,
    Single,
}

/// A value, for both lists or, written as `double.` or `single.` before it, for one.
#[derive(Debug, Clone)]
struct PerList<T> {
    list: Option<List>,
    value: T,
}

impl<T: FromStr<Err = String>> FromStr for PerList<T> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let lists = [("double.", List::Double), ("single.", List::Single)];
        let own = lists
            .into_iter()
            .find_map(|(prefix, list)| text.strip_prefix(prefix).map(|value| (Some(list), value)));
        let (list, value) = own.unwrap_or((None, text));
        Ok(Self { list, value: value.parse()? })
    }
}

/// Values that a flag takes, parsed with words of this program's own.
macro_rules! value {
    ($name:ident($type:ty), $parse:expr) => {
        #[derive(Debug, Clone)]
        struct $name($type);

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                let parse: fn(&str) -> Result<$type, String> = $parse;
                parse(text).map(Self)
            }
        }
    };
}

value!(Number(usize), |text| parsed(text, "a whole number, 0 or more, such as 4 or double.4"));
value!(Limit(i64), |text| parsed(text, "a whole number, -1 for no limit"));
value!(Real(f64), |text| parsed(text, "a number such as 0.08 or single.0.08"));
value!(Steps(Mask), |text| Mask::try_from(text.to_owned()).map_err(reason));
value!(Policy(MaskPolicy), word::<MaskPolicy>);
value!(Hits(Vec<usize>), hits);

fn parsed<T: FromStr>(text: &str, expected: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("expected {expected}"))
}

/// One of the words of an enum, as files spell them.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let value = serde_json::Value::from(text.to_ascii_lowercase());
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// `8-10+12`: ranges and single steps.
fn hits(text: &str) -> Result<Vec<usize>, String> {
    let expected = || format!("expected steps such as 8-10+12, found `{text}`");
    let number = |text: &str| text.parse::<usize>().ok().filter(|&step| step < 1000);
    let mut steps = Vec::new();
    for part in text.split('+') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let range = number(first).zip(number(last)).filter(|(first, last)| first <= last);
        let (first, last) = range.ok_or_else(expected)?;
        steps.extend(first..=last);
    }
    Ok(steps)
}
