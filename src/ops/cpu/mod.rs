//! The oracles: plain loops over host slices, f32 values, sums in f64.

pub(super) mod add_scaled;
pub(super) mod attention;
pub(super) mod branch;
pub(super) mod conv2d;
pub(super) mod embedding;
pub(super) mod euler_step;
pub(super) mod gated_gelu;
pub(super) mod gemm;
pub(super) mod gemm_qkv;
pub(super) mod groupnorm_silu;
pub(super) mod layernorm;
pub(super) mod layernorm_modulate;
pub(super) mod noise;
pub(super) mod pack;
pub(super) mod quantize;
pub(super) mod quantize_qkv;
pub(super) mod random_normal;
pub(super) mod residual_diff;
pub(super) mod rmsnorm;
pub(super) mod taylor;
pub(super) mod timestamp;
pub(super) mod timestep_embedding;
pub(super) mod to_rgb8;
pub(super) mod upsample;

use rayon::iter::IndexedParallelIterator;
use rayon::iter::ParallelIterator;
use rayon::slice::ParallelSliceMut;

use crate::device::Element;
use crate::device::MatrixMut;

/// Calls `body(row index, row)` for every row, rows in parallel.
fn for_each_row<T: Element>(
    out: &mut MatrixMut<'_, T>,
    body: impl Fn(usize, &mut [T::Host]) + Sync,
) {
    let [_, cols] = out.shape();
    let stride = out.stride();
    if cols == 0 {
        return;
    }
    out.host_mut()
        .par_chunks_mut(stride)
        .with_min_len((1 << 13) / cols.min(1 << 13))
        .enumerate()
        .for_each(|(row, chunk)| body(row, &mut chunk[..cols]));
}

/// Sum of squares in f64.
fn sum_of_squares(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}

/// `0.5 x (1 + tanh(u))`, `u = sqrt(2/pi) (x + 0.044715 x^3)`, spec flux 3.4, written as
/// `x / (1 + exp(-2 u))`: the same function, twice as fast as the library's tanh.
fn gelu_tanh(x: f32) -> f32 {
    const SQRT_8_OVER_PI: f32 = 2.0 * 0.797_884_6;
    x / (1.0 + (-SQRT_8_OVER_PI * (x + 0.044_715 * (x * x * x))).exp())
}

/// `x * sigmoid(x)`.
fn silu(x: f32) -> f32 {
    x / (1.0 + (-x).exp())
}
