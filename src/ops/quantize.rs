//! Activations or weights to e4m3: `value = x / units / scale` to the nearest. Units are of columns, 1
//! where there are none; the scale is `max(largest magnitude, 1e-12) / 448` over a row, or 1 where the
//! output is in units.
//!
//! Most of what is quantised never exists otherwise: the op that makes it quantises as it finishes.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::QuantizedMut;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "quantize";

/// `out [M, K]` from `x [M, K]`; `units` are `[K]`, powers of two.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn quantize(
    out: QuantizedMut<'_>,
    x: Matrix<'_, Act>,
    units: Option<&Tensor<f32, 1>>,
) -> Result<()> {
    expect_shape(OP, "out", out.shape(), x.shape())?;
    if let Some(units) = units {
        expect_shape(OP, "units", units.shape(), [x.shape()[1]])?;
    }
    if let Device::Cuda(cuda) = x.device() {
        return cuda::quantize::quantize(&cuda, &out, x, units);
    }
    cpu::quantize::quantize(out, x, units);
    Ok(())
}
