//! Every option of the cache, of both block lists.

use std::fmt;

use serde::Deserialize;
use serde::Serialize;

use crate::cache::Counting;
use crate::cache::Mask;
use crate::cache::MaskPolicy;
use crate::cache::Rounding;

/// Which blocks decide together, and over which tokens. Spec dualcache 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Layout {
    /// Double and single blocks each for themselves; the single blocks compare text and image. What
    /// the caching tutorial runs.
    SplitJoint,
    /// Double and single blocks each for themselves, both over the image alone.
    Split,
    /// All blocks together, over the image.
    Unified,
}

/// Where the comparison rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RoundingChoice {
    /// As the pipeline's dtype.
    #[default]
    Auto,
    /// [`Rounding::Bf16`].
    Bf16,
    /// [`Rounding::F32`].
    F32,
}

impl RoundingChoice {
    /// The rounding, of a pipeline in bf16 or not.
    #[must_use]
    pub fn of_pipeline(self, bf16: bool) -> Rounding {
        match self {
            Self::Bf16 => Rounding::Bf16,
            Self::F32 => Rounding::F32,
            Self::Auto if bf16 => Rounding::Bf16,
            Self::Auto => Rounding::F32,
        }
    }
}

/// A block list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListName {
    /// The double blocks.
    Double,
    /// The single blocks.
    Single,
    /// All blocks: layout [`Layout::Unified`].
    All,
}

impl fmt::Display for ListName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Double => "double",
            Self::Single => "single",
            Self::All => "all",
        })
    }
}

/// What one block list skips. The defaults are cache-dit's.
#[derive(Debug, Clone, PartialEq)]
pub struct ListOptions {
    /// Blocks at the start that every step computes; their effect is what is compared. At least 1.
    pub fn_blocks: usize,
    /// Blocks at the end that every step computes.
    pub bn_blocks: usize,
    /// A hit needs a relative difference below this; 0 never hits, 1 always.
    pub threshold: f64,
    /// Steps at the start that may be computed always; see `warmup_interval`.
    pub warmup: usize,
    /// Every how many of the first steps is computed always.
    pub warmup_interval: usize,
    /// Most hits of a picture.
    pub max_cached: Option<u32>,
    /// Most hits in a row.
    pub max_continuous: Option<u32>,
    /// No more hits once the recorded differences add up to this; 0 is no limit either.
    pub max_accumulated: Option<f64>,
    /// Which steps are computed always.
    pub mask: Option<Mask>,
    /// What becomes of the other steps.
    pub mask_policy: MaskPolicy,
    /// 0: a hit takes the effect of the last computed step; 1 or 2: a TaylorSeer forecast.
    pub taylor_order: usize,
    /// Which steps are hits, whatever the table says; the others that it would decide are computed.
    /// The comparison runs all the same: for timing, and for repeating a run.
    pub replay: Option<Vec<usize>>,
}

impl Default for ListOptions {
    fn default() -> Self {
        Self {
            fn_blocks: 8,
            bn_blocks: 0,
            threshold: 0.08,
            warmup: 8,
            warmup_interval: 1,
            max_cached: None,
            max_continuous: None,
            max_accumulated: None,
            mask: None,
            mask_policy: MaskPolicy::default(),
            taylor_order: 0,
            replay: None,
        }
    }
}

/// What is skipped.
#[derive(Debug, Clone, PartialEq)]
pub struct CacheOptions {
    /// Which blocks decide together.
    pub layout: Layout,
    /// How hits in a row are counted.
    pub counting: Counting,
    /// Where the comparison rounds.
    pub rounding: RoundingChoice,
    /// The double blocks; all blocks with [`Layout::Unified`].
    pub double: ListOptions,
    /// The single blocks; the same as `double` with [`Layout::Unified`].
    pub single: ListOptions,
}

impl Default for CacheOptions {
    /// cache-dit 1.5.3's for FLUX.1.
    fn default() -> Self {
        Self {
            layout: Layout::Unified,
            counting: Counting::Streak,
            rounding: RoundingChoice::Auto,
            double: ListOptions::default(),
            single: ListOptions::default(),
        }
    }
}
