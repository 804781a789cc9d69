//! One file an operation: formula, shapes, checks, and the dispatch to its implementations.
//!
//! `cpu/` holds the oracle of every op: the same maths as plain loops, or through `gemm`, in f32
//! with sums in f64. Ops have the granularity of the fused CUDA kernels. Arguments come in the
//! order outputs, inputs, sizes and scalars.

pub mod add_scaled;
pub mod attention;
pub mod branch;
pub mod conv2d;
mod cpu;
mod cuda;
pub mod embedding;
pub mod euler_step;
pub mod gated_gelu;
pub mod gemm;
pub mod gemm_qkv;
pub mod groupnorm_silu;
pub mod layernorm;
pub mod layernorm_modulate;
pub mod noise;
pub mod pack;
pub mod quantize;
pub mod quantize_qkv;
pub mod random_normal;
pub mod residual_diff;
pub mod rmsnorm;
pub mod taylor;
pub mod timestamp;
pub mod timestep_embedding;
pub mod to_rgb8;
pub mod upsample;

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;

/// How the CUDA kernels of matrix products are cut, and why, a line a tile.
#[must_use]
pub fn tuning_table() -> Vec<String> {
    cuda::tuning_table()
}

/// One shift, scale or gate vector of the current step: `D` columns from `column` on, in the row
/// of the modulation table that the step counter names.
///
/// The counter is a tensor because on CUDA the host does not know which step is running.
#[derive(Debug, Clone, Copy)]
pub struct ModulationVector<'a> {
    /// `[steps, all modulation outputs]`.
    pub table: &'a Tensor<Act, 2>,
    /// `[1]`.
    pub step: &'a Tensor<u32, 1>,
    /// First column.
    pub column: usize,
}

impl<'a> ModulationVector<'a> {
    /// The vector in host memory.
    fn host(&self, len: usize) -> &'a [f32] {
        &self.table.matrix().row(self.step.host()[0] as usize)[self.column..][..len]
    }

    /// Fails unless the table has the columns and the counter is one number.
    fn check(&self, op: &'static str, len: usize) -> Result<()> {
        let [steps, columns] = self.table.shape();
        expect_shape(op, "step", self.step.shape(), [1])?;
        expect(op, "modulation table", self.column + len <= columns, || {
            (format!("at least {} columns", self.column + len), format!("[{steps}, {columns}]"))
        })
    }
}

/// The two words of a number in device memory, low word first.
#[expect(clippy::cast_possible_truncation, reason = "the two halves")]
pub(crate) fn low_and_high(bits: u64) -> [u32; 2] {
    [bits as u32, (bits >> 32) as u32]
}

/// What [`low_and_high`] took apart.
pub(crate) fn from_low_and_high([low, high]: [u32; 2]) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Fails unless `actual` is the shape that the op needs.
pub(crate) fn expect_shape<const R: usize>(
    op: &'static str,
    tensor: &'static str,
    actual: [usize; R],
    expected: [usize; R],
) -> Result<()> {
    expect(op, tensor, actual == expected, || (format!("{expected:?}"), format!("{actual:?}")))
}

/// Fails with what `sentence` says was expected and found, unless `holds`.
pub(crate) fn expect(
    op: &'static str,
    tensor: &'static str,
    holds: bool,
    sentence: impl FnOnce() -> (String, String),
) -> Result<()> {
    if holds {
        return Ok(());
    }
    let (expected, actual) = sentence();
    Err(Error::Shape { op, tensor, expected, actual })
}

/// Fails unless the row ranges follow one another and cover `0..rows` exactly.
pub(crate) fn expect_cover<'a>(
    op: &'static str,
    segments: impl Iterator<Item = &'a std::ops::Range<usize>>,
    rows: usize,
) -> Result<()> {
    let mut end = 0;
    for range in segments {
        expect(op, "segments", range.start == end && range.end >= end, || {
            (format!("a segment that starts at row {end}"), format!("{range:?}"))
        })?;
        end = range.end;
    }
    expect(op, "segments", end == rows, || (format!("{rows} rows"), format!("{end} rows")))
}
