//! `tests/goldens/cache`: what cache-dit decided in each run, and the tensors beside it.

use std::collections::BTreeMap;

use flux_rt::cache::CacheOptions;
use flux_rt::cache::Counting;
use flux_rt::cache::Layout;
use flux_rt::cache::ListOptions;
use flux_rt::cache::Mask;
use flux_rt::cache::MaskPolicy;
use serde::Deserialize;

use crate::golden;

#[derive(Debug, Deserialize)]
struct Traces {
    runs: Vec<Run>,
}

/// A run of cache-dit.
#[derive(Debug, Deserialize)]
pub(crate) struct Run {
    pub(crate) name: String,
    rule: Counting,
    layout: Layout,
    pub(crate) dtype: String,
    pub(crate) batch: usize,
    pub(crate) guidance: f32,
    pub(crate) lists: Vec<List>,
}

/// One block list of it.
#[derive(Debug, Deserialize)]
pub(crate) struct List {
    pub(crate) name: String,
    options: Options,
    pub(crate) cached_steps: Vec<usize>,
    pub(crate) residual_diffs: BTreeMap<usize, f64>,
    pub(crate) steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Step {
    pub(crate) reason: String,
    pub(crate) diff: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Options {
    r#fn: usize,
    bn: usize,
    threshold: f64,
    warmup: usize,
    warmup_interval: usize,
    max_cached: Option<u32>,
    max_continuous: Option<u32>,
    accumulated: Option<f64>,
    taylor_order: Option<usize>,
    mask: Option<Vec<u8>>,
    mask_policy: Option<MaskPolicy>,
}

/// Every run of one image.
pub(crate) fn runs() -> Vec<Run> {
    let traces: Traces = serde_json::from_value(golden::json("cache/traces.json")).unwrap();
    // Items of a batch share cache-dit's decisions; here each picture decides for itself.
    traces.runs.into_iter().filter(|run| run.batch == 1).collect()
}

impl Run {
    pub(crate) fn is_bf16(&self) -> bool {
        self.dtype == "bf16"
    }

    /// The options; in a replay the decisions too.
    pub(crate) fn options(&self, replay: bool) -> CacheOptions {
        let list = |list: &List| ListOptions {
            fn_blocks: list.options.r#fn,
            bn_blocks: list.options.bn,
            threshold: list.options.threshold,
            warmup: list.options.warmup,
            warmup_interval: list.options.warmup_interval,
            max_cached: list.options.max_cached,
            max_continuous: list.options.max_continuous,
            max_accumulated: list.options.accumulated,
            mask: list
                .options
                .mask
                .as_ref()
                .map(|mask| Mask::Steps(mask.iter().map(|&step| step == 1).collect())),
            mask_policy: list.options.mask_policy.unwrap_or_default(),
            taylor_order: list.options.taylor_order.unwrap_or(0),
            replay: replay.then(|| list.decided_hits()),
        };
        let (first, last) = (&self.lists[0], &self.lists[self.lists.len() - 1]);
        CacheOptions {
            layout: self.layout,
            counting: self.rule,
            double: list(first),
            single: list(last),
            ..CacheOptions::default()
        }
    }
}

impl List {
    /// The hits that the table decided.
    fn decided_hits(&self) -> Vec<usize> {
        let steps = self.steps.iter().enumerate();
        steps.filter(|(_, step)| step.reason == "hit").map(|(step, _)| step).collect()
    }
}
