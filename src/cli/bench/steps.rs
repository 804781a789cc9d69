//! The steps of a run on their device's clock, by what the cache did in them.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::json;

use crate::cache::CacheLog;
use crate::cache::CacheRecord;
use crate::cache::Reason;
use crate::cli::bench::spread;
use crate::cli::cache_report::cache_report;
use crate::cli::progress::milliseconds;
use crate::pipeline::Generated;

/// Steps of one picture.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// Nanoseconds of beginning and end.
    times: Vec<[u64; 2]>,
    cache: Option<CacheLog>,
    /// Options and decisions of the cache; none without one.
    pub(super) record: Option<CacheRecord>,
}

impl Steps {
    pub(super) fn of(made: Generated) -> Self {
        Self { record: made.cache_record(), times: made.step_times, cache: made.cache }
    }

    /// Least, median and most milliseconds of the steps of each kind, and how many there were.
    fn kinds(&self) -> BTreeMap<String, (usize, [f64; 3])> {
        let mut kinds: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for (step, ms) in self.step_ms().enumerate() {
            kinds.entry(self.kind(step)).or_default().push(ms);
        }
        let measured = |(kind, ms): (_, Vec<f64>)| (kind, (ms.len(), spread(ms.into_iter())));
        kinds.into_iter().map(measured).collect()
    }

    /// What the lists did in a step, in words.
    fn kind(&self, step: usize) -> String {
        let Some(log) = &self.cache else { return "computed".into() };
        let did = |reason: Reason| match reason {
            Reason::Warmup | Reason::Mask => "known",
            reason if reason.is_hit() => "hit",
            _ => "decided",
        };
        let lists = log.lists.iter().filter_map(|list| Some(did(list.steps.get(step)?.reason)));
        lists.collect::<Vec<_>>().join("+")
    }

    /// Milliseconds of each step.
    fn step_ms(&self) -> impl Iterator<Item = f64> {
        self.times.iter().map(|[begin, end]| end.saturating_sub(*begin) as f64 / 1e6)
    }

    /// Microseconds from the end of a step to the beginning of the next: least, median, most.
    fn gaps_us(&self) -> [f64; 3] {
        let gap = |pair: &[[u64; 2]]| pair[1][0].saturating_sub(pair[0][1]) as f64 / 1e3;
        spread(self.times.windows(2).map(gap))
    }

    pub(super) fn json(&self) -> Value {
        let kinds = self.kinds().into_iter().map(|(kind, (steps, [min, median, max]))| {
            let ms = json!({ "min": min, "median": median, "max": max });
            (kind, json!({ "steps": steps, "ms": ms }))
        });
        let [min, median, max] = self.gaps_us();
        json!({
            "kinds": kinds.collect::<serde_json::Map<_, _>>(),
            "gap_us": { "min": min, "median": median, "max": max },
            "step_ms": self.step_ms().map(milliseconds).collect::<Vec<_>>(),
        })
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::from("\nsteps of the last run on the device's clock\n");
        for (kind, (steps, [min, median, max])) in self.kinds() {
            text +=
                &format!("{kind:<16} {steps:>3} steps {median:>9.3} ms    {min:>9.3} {max:>9.3}\n");
        }
        let [min, median, max] = self.gaps_us();
        text += &format!("between two steps {median:.1} us ({min:.1} to {max:.1})\n");
        if let Some(log) = &self.cache {
            text += &cache_report(log);
        }
        text
    }
}
