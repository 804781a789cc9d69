//! Options and decisions of a picture as JSON: in its metadata and in the documents of the program.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::cache::CacheLog;
use crate::cache::CacheOptions;
use crate::cache::Counting;
use crate::cache::Layout;
use crate::cache::ListChanges;
use crate::cache::ListLog;
use crate::cache::Preset;
use crate::cache::Rounding;
use crate::cache::RoundingChoice;
use crate::cache::log::Counts;

/// A cache and what it did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CacheRecord {
    /// `conservative`, `aggressive`, or `custom` for other options.
    pub preset: String,
    /// Which blocks decided together.
    pub layout: Layout,
    /// How hits in a row were counted.
    pub counting: Counting,
    /// Where the comparison rounded: `bf16` or `f32`.
    pub rounding: RoundingChoice,
    /// Every option of the double blocks.
    pub double: ListChanges,
    /// Every option of the single blocks.
    pub single: ListChanges,
    /// What was decided, by the name of the list.
    pub lists: BTreeMap<String, ListRecord>,
}

/// What one block list decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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
            double: ListChanges::from(&options.double),
            single: ListChanges::from(&options.single),
            lists: lists.collect(),
        }
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
