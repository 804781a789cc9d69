//! The DualCache's decision: how far the effect of the first blocks has moved since the last computed
//! step, the table, and what it came to.
//!
//! `d = mean |reference - (after - before)| / mean |reference|`, spec dualcache 5; the table is
//! [`rule`]. On CUDA all of it happens on the GPU: the sums in a fixed order, the table by the block
//! that finishes last. Oracle: `cpu/residual_diff.rs`.

pub mod rule;

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect;
use crate::ops::expect_shape;
use crate::ops::from_low_and_high;
use crate::ops::low_and_high;
use crate::ops::residual_diff::rule::Counters;
use crate::ops::residual_diff::rule::Counting;
use crate::ops::residual_diff::rule::Limits;
use crate::ops::residual_diff::rule::Reason;
use crate::ops::residual_diff::rule::Rounding;
use crate::ops::residual_diff::rule::Verdict;

const OP: &str = "residual_diff";

/// Words of [`Decider::limits`]: threshold and accumulated limit as f64 (low word first; 0 is no
/// limit), most hits and most hits in a row (`u32::MAX` is no limit), counting (1 is streak), rounding
/// (1 is f32).
pub(crate) const LIMIT_WORDS: usize = 8;
/// Words of [`Decider::counters`]: accumulated differences as f64, hits in a row, 1 + the last hit's
/// step (0 is none), hits, three unused.
pub(crate) const COUNTER_WORDS: usize = 8;
/// Added to the reason in the log where a difference is recorded.
pub(crate) const RECORDED: u32 = 0x100;

/// What a block list needs to decide on its device, and what it decided.
#[derive(Debug)]
pub struct Decider {
    /// `[1]`: 1 is hit, 0 is compute. What `branch` reads.
    pub decision: Tensor<u32, 1>,
    pub(crate) limits: Tensor<u32, 1>,
    pub(crate) counters: Tensor<u32, 1>,
    /// `[steps]`: 0 as the table says, 1 computed, 2 hit.
    pub(crate) replay: Tensor<u32, 1>,
    /// `[steps]`: reason, and [`RECORDED`]; 0 where nothing was decided.
    pub(crate) reasons: Tensor<u32, 1>,
    /// `[steps]`.
    pub(crate) diffs: Tensor<f32, 1>,
    /// Sums of the blocks of a launch; empty on the CPU.
    pub(crate) sums: Tensor<f32, 1>,
}

impl Decider {
    /// For generations of up to `steps` steps; [`Decider::reset`] comes before the first.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub fn new(device: &Device, steps: usize) -> Result<Self> {
        let sums = match device {
            Device::Cpu => 0,
            Device::Cuda(_) => cuda::residual_diff::SUM_WORDS,
        };
        Ok(Self {
            decision: Tensor::empty(device, [1])?,
            limits: Tensor::empty(device, [LIMIT_WORDS])?,
            counters: Tensor::empty(device, [COUNTER_WORDS])?,
            replay: Tensor::empty(device, [steps])?,
            reasons: Tensor::empty(device, [steps])?,
            diffs: Tensor::empty(device, [steps])?,
            sums: Tensor::empty(device, [sums])?,
        })
    }

    /// Before a generation: forgets the last one. `replay` overrules the table at the steps where it
    /// says something.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`]; [`crate::Error::Shape`] if `replay` has more steps.
    pub fn reset(&mut self, limits: &Limits, replay: &[Option<bool>]) -> Result<()> {
        let [steps] = self.reasons.shape();
        expect(OP, "replay", replay.len() <= steps, || {
            (format!("at most [{steps}]"), format!("[{}]", replay.len()))
        })?;
        let mut codes = vec![0; steps];
        for (code, decision) in codes.iter_mut().zip(replay) {
            *code = decision.map_or(0, |hit| 1 + u32::from(hit));
        }
        self.replay.copy_from_host(&Tensor::from_host([steps], codes))?;
        self.limits
            .copy_from_host(&Tensor::from_host([LIMIT_WORDS], limits.to_words().to_vec()))?;
        self.counters.copy_from_host(&Tensor::zeros([COUNTER_WORDS]))?;
        self.reasons.copy_from_host(&Tensor::zeros([steps]))?;
        self.diffs.copy_from_host(&Tensor::zeros([steps]))
    }

    /// The verdict of every step that was decided here, none for the others. Waits for the device.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn log(&self) -> Result<Vec<Option<Verdict>>> {
        let (reasons, diffs) = (self.reasons.to_host()?, self.diffs.to_host()?);
        let verdict = |(&code, &diff): (&u32, &f32)| {
            let reason = Reason::from_code(code & !RECORDED)?;
            Some(Verdict { reason, diff: (code & RECORDED != 0).then_some(diff) })
        };
        Ok(reasons.host().iter().zip(diffs.host()).map(verdict).collect())
    }
}

/// Decides the step that `step [1]` counts from 0: compares `after - before [R, D]` with
/// `reference [R, D]`, the same of the last computed step, and sets `decider.decision`. At step 0
/// there is no reference, and it is not read.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together, or, where the host can see it,
/// `step` has passed the last step.
pub fn residual_diff(
    decider: &mut Decider,
    reference: Matrix<'_, Act>,
    before: Matrix<'_, Act>,
    after: Matrix<'_, Act>,
    step: &Tensor<u32, 1>,
) -> Result<()> {
    expect_shape(OP, "before", before.shape(), reference.shape())?;
    expect_shape(OP, "after", after.shape(), reference.shape())?;
    expect_shape(OP, "step", step.shape(), [1])?;
    if let Device::Cuda(cuda) = decider.decision.device() {
        return cuda::residual_diff::residual_diff(&cuda, decider, reference, before, after, step);
    }
    let at = step.host()[0];
    let [steps] = decider.reasons.shape();
    expect(OP, "step", (at as usize) < steps, || (format!("below {steps}"), at.to_string()))?;
    let limits = Limits::from_words(decider.limits.host());
    let diff = (at > 0)
        .then(|| cpu::residual_diff::residual_diff(reference, before, after, limits.rounding));
    let replay = match decider.replay.host()[at as usize] {
        0 => None,
        code => Some(code == 2),
    };
    let mut counters = Counters::from_words(decider.counters.host());
    let Verdict { reason, diff } = counters.decide(&limits, at, diff, replay);
    decider.counters.host_mut().copy_from_slice(&counters.to_words());
    decider.decision.host_mut()[0] = u32::from(reason.is_hit());
    let recorded = if diff.is_some() { RECORDED } else { 0 };
    decider.reasons.host_mut()[at as usize] = reason as u32 | recorded;
    decider.diffs.host_mut()[at as usize] = diff.unwrap_or_default();
    Ok(())
}

fn f64_words(value: f64) -> [u32; 2] {
    low_and_high(value.to_bits())
}

fn from_words(low: u32, high: u32) -> f64 {
    f64::from_bits(from_low_and_high([low, high]))
}

impl Limits {
    fn to_words(self) -> [u32; LIMIT_WORDS] {
        let [threshold, accumulated] =
            [self.threshold, self.max_accumulated.unwrap_or_default()].map(f64_words);
        [
            threshold[0],
            threshold[1],
            accumulated[0],
            accumulated[1],
            self.max_cached.unwrap_or(u32::MAX),
            self.max_continuous.unwrap_or(u32::MAX),
            u32::from(self.counting == Counting::Streak),
            u32::from(self.rounding == Rounding::F32),
        ]
    }

    fn from_words(words: &[u32]) -> Self {
        let limit = |word| (word != u32::MAX).then_some(word);
        let accumulated = from_words(words[2], words[3]);
        Self {
            threshold: from_words(words[0], words[1]),
            max_accumulated: (accumulated > 0.0).then_some(accumulated),
            max_cached: limit(words[4]),
            max_continuous: limit(words[5]),
            counting: if words[6] == 1 { Counting::Streak } else { Counting::Legacy },
            rounding: if words[7] == 1 { Rounding::F32 } else { Rounding::Bf16 },
        }
    }
}

impl Counters {
    fn to_words(self) -> [u32; COUNTER_WORDS] {
        let [low, high] = f64_words(self.accumulated);
        let last = self.last_hit.map_or(0, |step| step + 1);
        [low, high, self.continuous, last, self.hits, 0, 0, 0]
    }

    fn from_words(words: &[u32]) -> Self {
        Self {
            accumulated: from_words(words[0], words[1]),
            continuous: words[2],
            last_hit: words[3].checked_sub(1),
            hits: words[4],
        }
    }
}
