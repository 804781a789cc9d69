//! `out = x / sqrt(mean(x^2) + eps) * weight`: T5's norm, spec flux 6.2.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "rmsnorm";

/// `out [S, D]` from `x [S, D]` and `weight [D]`.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn rmsnorm(
    mut out: MatrixMut<'_, Act>,
    x: Matrix<'_, Act>,
    weight: &Tensor<f32, 1>,
    eps: f32,
) -> Result<()> {
    let [seq, hidden] = x.shape();
    expect_shape(OP, "out", out.shape(), [seq, hidden])?;
    expect_shape(OP, "weight", weight.shape(), [hidden])?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::rmsnorm::rmsnorm(&cuda, &out, x, weight, eps);
    }
    cpu::rmsnorm::rmsnorm(&mut out, x, weight.host(), eps);
    Ok(())
}
