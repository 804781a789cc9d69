//! Whole generations of one block list: every verdict of many lists of random limits, with residuals
//! that are the same in all elements, so that every difference is exact.

use flux_rt::device::Act;
use flux_rt::device::Device;
use flux_rt::device::Tensor;
use flux_rt::ops::residual_diff::Decider;
use flux_rt::ops::residual_diff::residual_diff;
use flux_rt::ops::residual_diff::rule::Counting;
use flux_rt::ops::residual_diff::rule::Limits;
use flux_rt::ops::residual_diff::rule::Reason;
use flux_rt::ops::residual_diff::rule::Verdict;

use super::ROUNDINGS;
use super::STEPS;
use super::counter;
use crate::common::gpu;

/// Lists that are tried.
const LISTS: u64 = 240;

/// A generation whose residuals are the same in all elements, in sixty-fourths.
struct List {
    limits: Limits,
    replay: Vec<Option<bool>>,
    residuals: Vec<usize>,
    /// The first step that is decided; those before are computed.
    first: usize,
    columns: usize,
}

impl List {
    /// The list that `seed` stands for: limits that are often reached, residuals that grow or shrink
    /// by up to an eighth a step.
    fn new(seed: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut below = move |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % n
        };
        let limit =
            |most: usize, all: usize| (most < all / 2).then(|| u32::try_from(most).unwrap());
        let limits = Limits {
            threshold: [0.0, 0.03, 0.05, 0.0625, 0.08, 0.12, 0.2, 0.4, 1.0][below(9)],
            max_cached: limit(below(18), 18),
            max_continuous: limit(below(10), 10),
            max_accumulated: (below(3) == 0).then(|| [0.1, 0.25, 0.5][below(3)]),
            counting: [Counting::Legacy, Counting::Streak][below(2)],
            rounding: ROUNDINGS[below(2)],
        };
        let replayed = if below(3) == 0 { below(STEPS + 1) } else { 0 };
        let replay = (0..replayed).map(|_| [None, Some(false), Some(true)][below(3)]).collect();
        let (first, columns) = ([0, 0, 4, 8][below(4)], [5, 8][below(2)]);
        let mut residual = 64 + below(192);
        let residuals = (0..STEPS).map(|_| {
            residual = (residual + below(residual / 8 + 1)).min(255);
            residual = (residual - below(residual / 16 + 1)).max(64);
            residual
        });
        Self { limits, replay, residuals: residuals.collect(), first, columns }
    }
}

/// What lists are made of: in row `k` all elements are of the residual `k / 64`.
struct Rows {
    references: Tensor<Act, 2>,
    before: Tensor<Act, 2>,
    afters: Tensor<Act, 2>,
    counters: Vec<Tensor<u32, 1>>,
    decider: Decider,
}

impl Rows {
    fn new(device: &Device) -> Self {
        let rows = |offset: f32| {
            let value = |index: usize| f32::from(u8::try_from(index / 8).unwrap()) / 64.0 + offset;
            let values = (0..256 * 8).map(value).collect();
            gpu::to(device, Tensor::from_host([256, 8], values))
        };
        Self {
            references: rows(0.0),
            before: gpu::to(device, Tensor::from_host([1, 8], vec![-1.0; 8])),
            afters: rows(-1.0),
            counters: (0..STEPS).map(|step| counter(device, step)).collect(),
            decider: Decider::new(device, STEPS).unwrap(),
        }
    }

    /// The log of the list, whose references are the residuals of the steps that it computes.
    fn run(&mut self, list: &List) -> Vec<Option<Verdict>> {
        let Self { references, before, afters, counters, decider } = self;
        decider.reset(&list.limits, &list.replay).unwrap();
        let mut reference = list.first.checked_sub(1).map_or(0, |last| list.residuals[last]);
        let mut decisions = vec![None; STEPS];
        for step in list.first..STEPS {
            let residual = list.residuals[step];
            let columns = 0..list.columns;
            residual_diff(
                decider,
                references.matrix().rows(reference..reference + 1).columns(columns.clone()),
                before.matrix().columns(columns.clone()),
                afters.matrix().rows(residual..residual + 1).columns(columns),
                &counters[step],
            )
            .unwrap();
            let hit = decider.decision.to_host().unwrap().host()[0] == 1;
            decisions[step] = Some(hit);
            if !hit {
                reference = residual;
            }
        }
        let log = decider.log().unwrap();
        let logged: Vec<_> =
            log.iter().map(|verdict| verdict.map(|verdict| verdict.reason.is_hit())).collect();
        assert_eq!(decisions, logged);
        log
    }
}

#[test]
fn generations_come_to_every_reason() {
    let mut rows = Rows::new(&Device::Cpu);
    let logs: Vec<_> = (0..LISTS).map(|seed| rows.run(&List::new(seed))).collect();
    let count = |reason| {
        let verdicts = logs.iter().flatten().flatten();
        verdicts.filter(|verdict| verdict.reason == reason).count()
    };
    for reason in [
        Reason::MaxCached,
        Reason::Forced,
        Reason::Accumulated,
        Reason::NoThreshold,
        Reason::NoReference,
        Reason::Hit,
        Reason::Miss,
    ] {
        assert!(count(reason) >= 40, "{reason}: {}", count(reason));
    }
}

#[test]
fn cuda_decides_every_step_of_many_generations_alike() {
    let Some(gpu) = gpu::gpu() else { return };
    let (mut here, mut there) = (Rows::new(&Device::Cpu), Rows::new(&gpu));
    let lists = if gpu.small() { 20 } else { LISTS };
    for seed in 0..lists {
        let list = List::new(seed);
        let (expected, actual) = (here.run(&list), there.run(&list));
        assert_eq!(actual, expected, "list {seed}: {:?}, replay {:?}", list.limits, list.replay);
    }
}
