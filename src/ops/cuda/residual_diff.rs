//! Launcher of `residual_diff`: sums, table and log in one launch.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Matrix;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::expect_contiguous;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;
use crate::ops::residual_diff::Decider;

const OP: &str = "residual_diff";

/// Blocks at most, on any card, for sums that do not depend on it: those that an H100's 132
/// multiprocessors hold at a time, four each.
const MOST_BLOCKS: usize = 4 * 132;
/// Elements that a block takes in one round: two vectors of eight a thread.
const ROUND: usize = 256 * 2 * 8;

/// Two sums a block.
pub(crate) const SUM_WORDS: usize = 2 * MOST_BLOCKS;

kernel_params!(Params, 96, {
    0 reference: u64,
    8 before: u64,
    16 after: u64,
    24 step: u64,
    32 limits: u64,
    40 replay: u64,
    48 counters: u64,
    56 decision: u64,
    64 reasons: u64,
    72 diffs: u64,
    80 sums: u64,
    88 count: i32,
    92 steps: i32,
});

pub(crate) fn residual_diff(
    cuda: &Arc<Cuda>,
    decider: &mut Decider,
    reference: Matrix<'_, Act>,
    before: Matrix<'_, Act>,
    after: Matrix<'_, Act>,
    step: &Tensor<u32, 1>,
) -> Result<()> {
    let count = reference.shape().iter().product();
    expect_contiguous(OP, "reference", reference)?;
    expect_contiguous(OP, "before", before)?;
    expect_contiguous(OP, "after", after)?;
    let [steps] = decider.reasons.shape();
    let params = Params {
        reference: reference.cuda_address(),
        before: before.cuda_address(),
        after: after.cuda_address(),
        step: step.cuda_address(),
        limits: decider.limits.cuda_address(),
        replay: decider.replay.cuda_address(),
        counters: decider.counters.cuda_address(),
        decision: decider.decision.cuda_address(),
        reasons: decider.reasons.cuda_address(),
        diffs: decider.diffs.cuda_address(),
        sums: decider.sums.cuda_address(),
        count: int(OP, "reference", count)?,
        steps: int(OP, "steps", steps)?,
    };
    // Whole rounds, the same number for every block but the last. Nothing to compare is still decided.
    let rounds = count.max(1).div_ceil(ROUND);
    let blocks = blocks(OP, rounds, rounds.div_ceil(MOST_BLOCKS))?;
    let work = Work::Bytes(6 * count);
    cuda.launch(OP, linear_grid(blocks, 256).doing(work), &params)
}
