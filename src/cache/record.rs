//! Options and decisions of a picture as JSON: in its metadata and in the documents of the program.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::cache::CacheLog;
use crate::cache::CacheOptions;
use crate::cache::Changes;
use crate::cache::Counting;
use crate::cache::Layout;
use crate::cache::ListChanges;
use crate::cache::ListLog;
use crate::cache::ListOptions;
use crate::cache::Preset;
use crate::cache::Rounding;
use crate::cache::RoundingChoice;
use crate::cache::log::Counts;
use crate::error::Result;

/// A cache and what it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CacheRecord {
    /// `conservative`, `aggressive`, or `custom` for other options.
    pub preset: String,
    /// Which blocks decided together.
    pub layout: Layout,
    /// How hits in a row were counted.
    pub counting: Counting,
    /// Where the comparison rounded: `bf16` or `f32`.
    pub rounding: RoundingChoice,
    /// What was asked for there; records of earlier versions do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounding_asked: Option<RoundingChoice>,
    /// Every option of the double blocks.
    pub double: ListChanges,
    /// Every option of the single blocks.
    pub single: ListChanges,
    /// What was decided, by the name of the list.
    pub lists: BTreeMap<String, ListRecord>,
}

/// What one block list decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ListRecord {
    /// The steps that were skipped.
    pub cached_steps: Vec<usize>,
    /// The relative difference of every step that was compared; null is a quotient by 0.
    pub residual_diffs: BTreeMap<usize, Option<f32>>,
    /// Of each step, why it was computed or skipped.
    pub reasons: Vec<String>,
    /// How many steps went which way.
    #[serde(flatten)]
    pub counts: Counts,
    /// Hits by steps that were compared; null if none was.
    pub hits_per_compared: Option<f64>,
    /// Hits by all steps.
    pub hits_per_step: f64,
}

impl CacheRecord {
    /// The record of a picture.
    #[must_use]
    pub fn new(options: &CacheOptions, log: &CacheLog) -> Self {
        let lists = log.lists.iter().map(|list| (list.name.to_string(), ListRecord::from(list)));
        Self {
            preset: options.name(),
            layout: options.layout,
            counting: options.counting,
            rounding: match log.rounding {
                Rounding::Bf16 => RoundingChoice::Bf16,
                Rounding::F32 => RoundingChoice::F32,
            },
            rounding_asked: Some(options.rounding),
            double: ListChanges::from(&options.double),
            single: ListChanges::from(&options.single),
            lists: lists.collect(),
        }
    }
}

impl CacheRecord {
    /// Whether these options were at work.
    #[must_use]
    pub fn is_of(&self, options: &CacheOptions) -> bool {
        let CacheOptions { layout, counting, rounding, double, single } = options;
        self.layout == *layout
            && self.counting == *counting
            && self.rounding_asked.is_none_or(|asked| asked == *rounding)
            && self.double == ListChanges::from(double)
            && self.single == ListChanges::from(single)
    }
}

/// The options in a [`CacheRecord`], of which any may be missing.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default)]
pub struct RecordedOptions {
    preset: Option<String>,
    layout: Option<Layout>,
    counting: Option<Counting>,
    rounding: Option<RoundingChoice>,
    rounding_asked: Option<RoundingChoice>,
    double: ListChanges,
    single: ListChanges,
}

impl RecordedOptions {
    /// The options; what is missing is cache-dit's default.
    ///
    /// # Errors
    /// [`crate::error::Error::Request`] for a limit that is none.
    pub fn options(&self) -> Result<CacheOptions> {
        // A preset leaves rounding to the dtype, which may be another one this time.
        let preset = self.preset.as_deref().and_then(|name| name.parse::<Preset>().ok());
        let of_preset = preset.map(|_| RoundingChoice::Auto);
        let changes = Changes {
            layout: self.layout,
            counting: self.counting,
            rounding: self.rounding_asked.or(of_preset).or(self.rounding),
            both: ListChanges::default(),
            double: self.double.clone(),
            single: self.single.clone(),
        };
        let mut options = CacheOptions::default();
        changes.apply(&mut options)?;
        Ok(options)
    }

    /// The names of the options that are missing, though every record has them.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let own = [
            ("layout", self.layout.is_none()),
            ("counting", self.counting.is_none()),
            ("rounding", self.rounding.or(self.rounding_asked).is_none()),
        ];
        let own = own.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name.to_owned());
        let all = names(&ListChanges::from(&ListOptions::default()));
        let lists = [("double", &self.double), ("single", &self.single)];
        let of_lists = lists.into_iter().flat_map(|(list, changes)| {
            let said = names(changes);
            let missing = all.iter().filter(move |name| !said.contains(name));
            missing.map(move |name| format!("{list}.{name}"))
        });
        own.chain(of_lists).collect()
    }
}

/// The options that are set, as files call them.
fn names(changes: &ListChanges) -> Vec<String> {
    match serde_json::to_value(changes) {
        Ok(serde_json::Value::Object(fields)) => fields.into_iter().map(|(name, _)| name).collect(),
        _ => Vec::new(),
    }
}

impl CacheOptions {
    /// The preset that these are, or `custom`.
    #[must_use]
    pub fn name(&self) -> String {
        Preset::of(Some(self)).map_or_else(|| "custom".to_owned(), |preset| preset.to_string())
    }
}

impl From<&ListLog> for ListRecord {
    fn from(list: &ListLog) -> Self {
        let diffs = list.residual_diffs().into_iter();
        Self {
            cached_steps: list.cached_steps(),
            residual_diffs: diffs
                .map(|(at, diff)| (at, diff.is_finite().then_some(diff)))
                .collect(),
            reasons: list.steps.iter().map(|verdict| verdict.reason.to_string()).collect(),
            counts: list.counts(),
            hits_per_compared: list.hits_per_compared(),
            hits_per_step: list.hits_per_step(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::cache::file;

    /// What a record of the options gives back.
    fn again(options: &CacheOptions) -> CacheOptions {
        let log = CacheLog { lists: Vec::new(), rounding: Rounding::F32, step_ms: Vec::new() };
        let json = serde_json::to_string(&CacheRecord::new(options, &log)).unwrap();
        let recorded: RecordedOptions = serde_json::from_str(&json).unwrap();
        assert_eq!(recorded.missing(), [""; 0]);
        recorded.options().unwrap()
    }

    #[test]
    fn every_option_survives_its_record() {
        let every = "layout = 'split'\ncounting = 'legacy'\nrounding = 'bf16'\nfn = 2\nbn = 1\n\
                     warmup = 3\nwarmup_interval = 2\nmax_cached = 5\nmax_continuous = 2\n\
                     max_accumulated = 0.1\nmask = 'fast'\nmask_policy = 'static'\n\
                     taylor_order = 2\nreplay = [3, 5]\n\
                     [double]\nthreshold = 0.12345678901234567\n\
                     [single]\nthreshold = 0.30000000000000004\nmask = '1101'\nreplay = []\n\
                     max_accumulated = 0.0\nmax_cached = 0\nmax_continuous = -1\nfn = 3";
        let texts =
            ["", "preset = 'aggressive'", "preset = 'conservative'\nrounding = 'f32'", every];
        for text in texts {
            let options = file::parse(text, Path::new("cache.toml")).unwrap().unwrap();
            assert_eq!(again(&options), options, "{text}");
        }
    }

    #[test]
    fn records_without_the_choice_of_rounding_are_read() {
        let recorded = |json: &str| -> RecordedOptions { serde_json::from_str(json).unwrap() };
        for (preset, rounding) in
            [("aggressive", RoundingChoice::Auto), ("custom", RoundingChoice::F32)]
        {
            let json = format!(r#"{{"preset":"{preset}","rounding":"f32","lists":{{}}}}"#);
            assert_eq!(recorded(&json).options().unwrap().rounding, rounding);
        }
        let missing = recorded(r#"{"layout":"split","double":{"fn":2}}"#).missing();
        assert!(missing.contains(&"counting".to_owned()), "{missing:?}");
        assert!(missing.contains(&"double.threshold".to_owned()), "{missing:?}");
        assert!(!missing.contains(&"layout".to_owned()), "{missing:?}");
        assert!(!missing.contains(&"double.fn".to_owned()), "{missing:?}");
    }
}
