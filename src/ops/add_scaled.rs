//! `out = a + scale b`: residuals taken and put back.
//!
//! With scale -1 the effect of blocks on the stream, with 1 the stream with that effect (spec
//! dualcache 3). One rounding, as of PyTorch's sum of two bf16 tensors. Oracle: `cpu/add_scaled.rs`.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "add_scaled";

/// `out [R, D] = a [R, D] + scale * b [R, D]`.
///
/// # Errors
/// [`crate::Error::Shape`] when the shapes differ.
pub fn add_scaled(
    mut out: MatrixMut<'_, Act>,
    a: Matrix<'_, Act>,
    b: Matrix<'_, Act>,
    scale: f32,
) -> Result<()> {
    expect_shape(OP, "a", a.shape(), out.shape())?;
    expect_shape(OP, "b", b.shape(), out.shape())?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::add_scaled::add_scaled(&cuda, &out, a, b, scale);
    }
    cpu::add_scaled::add_scaled(&mut out, a, b, scale);
    Ok(())
}
