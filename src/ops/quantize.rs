//! Activations or weights to e4m3: `scale = max(largest magnitude, 1e-12) / 448` over a row, or over
//! 128 columns of it, and `value = x / scale` to the nearest.
//!
//! Most of what is quantised never exists otherwise: the op that makes it quantises as it finishes.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::QuantizedMut;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "quantize";

/// `out [M, K]` from `x [M, K]`.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn quantize(out: QuantizedMut<'_>, x: Matrix<'_, Act>) -> Result<()> {
    expect_shape(OP, "out", out.shape(), x.shape())?;
    if let Device::Cuda(cuda) = x.device() {
        return cuda::quantize::quantize(&cuda, &out, x);
    }
    cpu::quantize::quantize(out, x);
    Ok(())
}
