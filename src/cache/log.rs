//! What the cache did to a picture: the verdict of every step, and what that comes to.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::Serialize;

use crate::cache::ListName;
use crate::cache::Reason;
use crate::cache::Rounding;
use crate::cache::Verdict;

/// Verdicts of one block list, one a step.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ListLog {
    /// Which list.
    pub name: ListName,
    /// Of each step.
    pub steps: Vec<Verdict>,
}

/// Verdicts of all block lists of a picture.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CacheLog {
    /// In the order in which they ran.
    pub lists: Vec<ListLog>,
    /// Where the comparison rounded.
    pub rounding: Rounding,
    /// Milliseconds of each step on its device.
    pub step_ms: Vec<f64>,
}

/// How many steps went which way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Counts {
    /// Skipped.
    pub hits: usize,
    /// Compared and computed.
    pub misses: usize,
    /// Computed because a limit was reached.
    pub forced: usize,
    /// Computed because there was nothing to compare with, or the threshold allows no hit.
    pub uncompared: usize,
    /// Computed because warmup or the mask says so.
    pub warmup: usize,
}

impl ListLog {
    /// How many steps went which way.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for verdict in &self.steps {
            let count = match verdict.reason {
                Reason::Hit | Reason::StaticHit => &mut counts.hits,
                Reason::Miss => &mut counts.misses,
                Reason::Warmup | Reason::Mask => &mut counts.warmup,
                Reason::MaxCached | Reason::Forced | Reason::Accumulated => &mut counts.forced,
                Reason::NoThreshold | Reason::NoReference => &mut counts.uncompared,
            };
            *count += 1;
        }
        counts
    }

    /// Whether warmup or mask computed every step.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.counts().warmup == self.steps.len()
    }

    /// The steps that were skipped: cache-dit's `cached_steps`.
    #[must_use]
    pub fn cached_steps(&self) -> Vec<usize> {
        let steps = self.steps.iter().enumerate();
        steps.filter(|(_, verdict)| verdict.reason.is_hit()).map(|(step, _)| step).collect()
    }

    /// The relative difference of every step that was compared: cache-dit's `residual_diffs`.
    #[must_use]
    pub fn residual_diffs(&self) -> BTreeMap<usize, f32> {
        let steps = self.steps.iter().enumerate();
        steps.filter_map(|(step, verdict)| Some((step, verdict.diff?))).collect()
    }

    /// Hits by steps that were compared; none if none was. cache-dit's and the tutorial's rate.
    #[must_use]
    pub fn hits_per_compared(&self) -> Option<f64> {
        let compared = self.steps.iter().filter(|verdict| verdict.diff.is_some());
        let hits = compared.clone().filter(|verdict| verdict.reason.is_hit()).count();
        let compared = compared.count();
        (compared > 0).then(|| hits as f64 / compared as f64)
    }

    /// Hits by all steps.
    #[must_use]
    pub fn hits_per_step(&self) -> f64 {
        self.counts().hits as f64 / self.steps.len().max(1) as f64
    }

    /// One character a step: `#` computed, `.` skipped, `F` computed because a limit was reached, `w`
    /// because warmup or the mask says so, `-` because nothing could be compared.
    #[must_use]
    pub fn timeline(&self) -> String {
        let mark = |verdict: &Verdict| match verdict.reason {
            Reason::Hit | Reason::StaticHit => '.',
            Reason::Miss => '#',
            Reason::Warmup | Reason::Mask => 'w',
            Reason::NoThreshold | Reason::NoReference => '-',
            Reason::MaxCached | Reason::Forced | Reason::Accumulated => 'F',
        };
        self.steps.iter().map(mark).collect()
    }
}

impl CacheLog {
    /// Hits by steps that were compared, over all lists; none if none was.
    #[must_use]
    pub fn hits_per_compared(&self) -> Option<f64> {
        let verdicts = || self.lists.iter().flat_map(|list| &list.steps);
        let compared = verdicts().filter(|verdict| verdict.diff.is_some());
        let hits = compared.clone().filter(|verdict| verdict.reason.is_hit()).count();
        let compared = compared.count();
        (compared > 0).then(|| hits as f64 / compared as f64)
    }

    /// Hits by all steps, over all lists.
    #[must_use]
    pub fn hits_per_step(&self) -> f64 {
        let hits: usize = self.lists.iter().map(|list| list.counts().hits).sum();
        let steps: usize = self.lists.iter().map(|list| list.steps.len()).sum();
        hits as f64 / steps.max(1) as f64
    }

    /// The rate that the caching tutorial prints: the mean over double blocks, single blocks, and the
    /// transformer, whose values are those of the single blocks. None with one list, or if none compared.
    #[must_use]
    pub fn tutorial_rate(&self) -> Option<f64> {
        let rate = |name| {
            let list = self.lists.iter().find(|list| list.name == name)?;
            Some((list.hits_per_compared()?, if name == ListName::Single { 2.0 } else { 1.0 }))
        };
        let rates: Vec<(f64, f64)> =
            [ListName::Double, ListName::Single].into_iter().filter_map(rate).collect();
        let weights: f64 = rates.iter().map(|(_, weight)| weight).sum();
        let sum: f64 = rates.iter().map(|(rate, weight)| rate * weight).sum();
        (weights > 0.0).then(|| sum / weights)
    }

    /// Milliseconds that hits saved: against the median of the steps in which every list was computed.
    /// None if there was no hit.
    #[must_use]
    pub fn saved_ms(&self) -> Option<f64> {
        let has_hit = |step: usize| {
            self.lists.iter().any(|list| list.steps.get(step).is_some_and(|at| at.reason.is_hit()))
        };
        let (hits, computed): (Vec<_>, Vec<_>) =
            self.step_ms.iter().enumerate().partition(|(step, _)| has_hit(*step));
        let mut full: Vec<f64> = computed.into_iter().map(|(_, &ms)| ms).collect();
        full.sort_by(f64::total_cmp);
        let median = full.get(full.len() / 2)?;
        (!hits.is_empty()).then(|| hits.iter().map(|(_, ms)| median - **ms).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(name: ListName, marks: &str) -> ListLog {
        let verdict = |mark| match mark {
            'w' => Verdict { reason: Reason::Warmup, diff: None },
            'F' => Verdict { reason: Reason::Forced, diff: None },
            '.' => Verdict { reason: Reason::Hit, diff: Some(0.01) },
            _ => Verdict { reason: Reason::Miss, diff: Some(0.5) },
        };
        ListLog { name, steps: marks.chars().map(verdict).collect() }
    }

    #[test]
    fn rates_are_the_tutorials() {
        // Spec dualcache 9: aggressive, 15 hits, 4 misses, 1 forced in both lists.
        let marks = "wwwwwwww...............####F";
        let log = CacheLog {
            lists: vec![list(ListName::Double, marks), list(ListName::Single, marks)],
            rounding: Rounding::F32,
            step_ms: Vec::new(),
        };
        let counts = Counts { hits: 15, misses: 4, forced: 1, uncompared: 0, warmup: 8 };
        assert_eq!(log.lists[0].counts(), counts);
        assert_eq!(log.lists[0].timeline(), marks);
        assert!((log.tutorial_rate().unwrap() - 15.0 / 19.0).abs() < 1e-12);
        assert!((log.lists[1].hits_per_step() - 15.0 / 28.0).abs() < 1e-12);
        let other = CacheLog {
            lists: vec![list(ListName::Double, ".#"), list(ListName::Single, "..")],
            rounding: Rounding::F32,
            step_ms: Vec::new(),
        };
        assert!((other.tutorial_rate().unwrap() - 2.5 / 3.0).abs() < 1e-12);
        assert_eq!((other.hits_per_compared(), other.hits_per_step()), (Some(0.75), 0.75));
    }

    #[test]
    fn saved_time_is_against_full_steps() {
        let lists = vec![list(ListName::Double, "ww.."), list(ListName::Single, "ww#.")];
        let rounding = Rounding::F32;
        let log = CacheLog { lists, rounding, step_ms: vec![10.0, 11.0, 8.0, 2.0] };
        assert_eq!(log.saved_ms(), Some(12.0));
        let lists = vec![list(ListName::All, "w#")];
        let none = CacheLog { lists, rounding, step_ms: vec![1.0, 1.0] };
        assert_eq!((none.saved_ms(), none.tutorial_rate()), (None, None));
        assert_eq!(none.lists[0].cached_steps(), Vec::<usize>::new());
    }
}
