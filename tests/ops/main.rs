//! Every op against plain loops in f64, hand-worked values and the libraries it repeats.
#![expect(
    clippy::float_cmp,
    clippy::panic,
    clippy::unwrap_used,
    reason = "hand-worked values are exact, and a helper of a test may fail it"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../golden/mod.rs"]
mod golden;

mod add_scaled;
mod attention;
mod branch;
mod conv2d;
mod embedding;
mod euler_step;
mod gated_gelu;
mod gemm;
mod gemm_qkv;
mod groupnorm_silu;
mod layernorm;
mod layernorm_modulate;
mod noise;
mod pack;
mod quantize;
mod quantize_qkv;
mod random_normal;
mod residual_diff;
mod rmsnorm;
mod taylor;
mod timestamp;
mod timestep_embedding;
mod to_rgb8;
mod upsample;

use flux_rt::device::Tensor;

/// A tensor of repeatable numbers in [-1, 1).
fn random<T, const R: usize>(shape: [usize; R], seed: u64) -> Tensor<T, R>
where
    T: flux_rt::device::Element<Host = f32>,
{
    Tensor::from_host(shape, common::random(shape.iter().product(), seed))
}

/// A property is tried on so many random inputs; failures are printed, not stored in a file.
fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}

/// Element (row, column) of a row-major matrix, widened.
fn at(values: &[f32], columns: usize, row: usize, column: usize) -> f64 {
    f64::from(values[row * columns + column])
}

/// An f64 result as the f32 that the op should give.
#[expect(clippy::cast_possible_truncation, reason = "the op's results are f32")]
fn narrow(value: f64) -> f32 {
    value as f32
}

/// GELU in its tanh form, in f64.
fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}
