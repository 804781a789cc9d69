//! The part of the DualCache's table that only the device knows: limits, counters, comparison.
//!
//! Spec dualcache 4 (tests 4 to 12) and 6; reference `CachedContextManager.can_cache` of cache-dit
//! 1.0.9 and 1.5.3. Tests 1 to 3 depend on the step alone: `src/cache/schedule.rs`.

use std::fmt;
use std::str::FromStr;

use crate::error::Error;

/// How consecutive hits are counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Counting {
    /// cache-dit before 1.5.3: a miss keeps the count, an isolated hit does not raise it.
    Legacy,
    /// Since 1.5.3: the length of the run of hits.
    Streak,
}

impl Counting {
    /// The names a user can write.
    pub const NAMES: [&str; 2] = ["legacy", "streak"];
}

impl fmt::Display for Counting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Legacy => "legacy",
            Self::Streak => "streak",
        })
    }
}

impl FromStr for Counting {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "legacy" => Ok(Self::Legacy),
            "streak" => Ok(Self::Streak),
            _ => Err(Error::Request {
                field: "cache-counting",
                reason: format!("expected legacy or streak, found `{text}`"),
            }),
        }
    }
}

/// Where the comparison rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rounding {
    /// As PyTorch on bf16 tensors: residual, differences, both means and their quotient.
    Bf16,
    /// Nothing but the residual, where activations are bf16.
    F32,
}

/// The limits of one block list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// A hit needs a relative difference below this; 0 never hits, 1 always.
    pub threshold: f64,
    /// Most hits of a generation.
    pub max_cached: Option<u32>,
    /// Most hits in a row, as [`Counting`] counts them.
    pub max_continuous: Option<u32>,
    /// No more hits once the recorded differences add up to this.
    pub max_accumulated: Option<f64>,
    /// How hits in a row are counted.
    pub counting: Counting,
    /// Where the comparison rounds.
    pub rounding: Rounding,
}

/// Why a step was computed or not: the rows of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Reason {
    /// Computed: one of the first steps.
    Warmup = 1,
    /// Computed: the step mask says so.
    Mask = 2,
    /// Hit without a comparison: the step mask says so.
    StaticHit = 3,
    /// Computed: the generation has had its hits.
    MaxCached = 4,
    /// Computed: enough hits in a row.
    Forced = 5,
    /// Computed: the differences add up to the limit.
    Accumulated = 6,
    /// Computed: the threshold allows no hit.
    NoThreshold = 7,
    /// Computed: nothing to compare with.
    NoReference = 8,
    /// Hit: hardly any difference.
    Hit = 9,
    /// Computed: too different.
    Miss = 10,
}

impl Reason {
    const ALL: [Self; 10] = [
        Self::Warmup,
        Self::Mask,
        Self::StaticHit,
        Self::MaxCached,
        Self::Forced,
        Self::Accumulated,
        Self::NoThreshold,
        Self::NoReference,
        Self::Hit,
        Self::Miss,
    ];

    /// The reason with this number, as the device logs it.
    pub(crate) fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|&reason| reason as u32 == code)
    }

    /// Whether the step was not computed.
    #[must_use]
    pub fn is_hit(self) -> bool {
        matches!(self, Self::StaticHit | Self::Hit)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Warmup => "warmup",
            Self::Mask => "mask",
            Self::StaticHit => "static-hit",
            Self::MaxCached => "max-cached",
            Self::Forced => "forced",
            Self::Accumulated => "accumulated",
            Self::NoThreshold => "no-threshold",
            Self::NoReference => "no-reference",
            Self::Hit => "hit",
            Self::Miss => "miss",
        })
    }
}

/// What one step of one list came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// The row of the table.
    pub reason: Reason,
    /// The relative difference, where the row records one; -1 where nothing needed to be compared.
    pub diff: Option<f32>,
}

/// What a list remembers of the steps before.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counters {
    /// Sum of the recorded positive differences.
    pub accumulated: f64,
    /// The count that [`Limits::max_continuous`] limits.
    pub continuous: u32,
    /// The step of the last hit.
    pub last_hit: Option<u32>,
    /// Hits so far.
    pub hits: u32,
}

impl Counters {
    /// Decides step `step`, counted from 0, and counts it. `diff` is the relative difference from the
    /// reference, none if there is no reference yet. `replay` overrules the table: what is counted is
    /// what then happens.
    pub fn decide(
        &mut self,
        limits: &Limits,
        step: u32,
        diff: Option<f32>,
        replay: Option<bool>,
    ) -> Verdict {
        if limits.counting == Counting::Streak && self.last_hit.is_none_or(|last| last + 1 != step)
        {
            self.continuous = 0;
        }
        let mut verdict = self.table(limits, diff);
        if let Some(diff) = verdict.diff.map(f64::from)
            && diff > 0.0
        {
            self.accumulated += diff;
        }
        if let Some(hit) = replay
            && hit != verdict.reason.is_hit()
        {
            verdict.reason = if hit { Reason::Hit } else { Reason::Miss };
        }
        match verdict.reason {
            Reason::Forced if limits.counting == Counting::Legacy => self.continuous = 0,
            reason if reason.is_hit() => self.count_hit(limits.counting, step),
            _ => {}
        }
        verdict
    }

    /// Tests 4 to 12.
    fn table(&self, limits: &Limits, diff: Option<f32>) -> Verdict {
        let computed = |reason| Verdict { reason, diff: None };
        if limits.max_cached.is_some_and(|most| self.hits >= most) {
            return computed(Reason::MaxCached);
        }
        if limits.max_continuous.is_some_and(|most| self.continuous >= most) {
            return computed(Reason::Forced);
        }
        if limits.max_accumulated.is_some_and(|most| self.accumulated >= most) {
            return computed(Reason::Accumulated);
        }
        if limits.threshold <= 0.0 {
            return computed(Reason::NoThreshold);
        }
        let Some(diff) = diff else { return computed(Reason::NoReference) };
        if limits.threshold >= 1.0 {
            return Verdict { reason: Reason::Hit, diff: Some(-1.0) };
        }
        // NaN, of a reference that is 0 everywhere, is no hit.
        let hit = f64::from(diff) < limits.threshold;
        Verdict { reason: if hit { Reason::Hit } else { Reason::Miss }, diff: Some(diff) }
    }

    fn count_hit(&mut self, counting: Counting, step: u32) {
        let follows = self.last_hit.is_some_and(|last| last + 1 == step);
        self.continuous = match counting {
            Counting::Streak => self.continuous + 1,
            Counting::Legacy if self.last_hit.is_none() => self.continuous + 1,
            // The hit before, which was isolated, counts too.
            Counting::Legacy if follows && self.continuous == 0 => 2,
            Counting::Legacy if follows => self.continuous + 1,
            Counting::Legacy => self.continuous,
        };
        self.last_hit = Some(step);
        self.hits += 1;
    }
}
