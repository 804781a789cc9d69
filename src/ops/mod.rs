//! One file an operation: formula, shapes, checks, and the dispatch to its implementations.
//!
//! `cpu/` holds the oracle of every op: the same maths as plain loops, or through `gemm`, in f32
//! with sums in f64. Ops have the granularity of the fused CUDA kernels. Arguments come in the
//! order outputs, inputs, sizes and scalars.

pub mod attention;
pub mod conv2d;
mod cpu;
pub mod embedding;
pub mod euler_step;
pub mod gated_gelu;
pub mod gemm;
pub mod groupnorm_silu;
pub mod layernorm;
pub mod layernorm_modulate;
pub mod noise;
pub mod pack;
pub mod rmsnorm;
pub mod timestep_embedding;
pub mod to_rgb8;
pub mod upsample;

use crate::error::Error;
use crate::error::Result;

/// Fails unless `actual` is the shape that the op needs.
pub(crate) fn expect_shape<const R: usize>(
    op: &'static str,
    tensor: &'static str,
    actual: [usize; R],
    expected: [usize; R],
) -> Result<()> {
    if actual == expected {
        return Ok(());
    }
    let (expected, actual) = (format!("{expected:?}"), format!("{actual:?}"));
    Err(Error::Shape { op, tensor, expected, actual })
}
