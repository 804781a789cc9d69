//! `out = LayerNorm(x) * weight + bias`, biased variance: CLIP's, spec flux 6.1.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "layernorm";

/// `out [S, D]` from `x [S, D]`, `weight [D]` and `bias [D]`.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn layernorm(
    mut out: MatrixMut<'_, Act>,
    x: Matrix<'_, Act>,
    weight: &Tensor<f32, 1>,
    bias: &Tensor<f32, 1>,
    eps: f32,
) -> Result<()> {
    let [seq, hidden] = x.shape();
    expect_shape(OP, "out", out.shape(), [seq, hidden])?;
    expect_shape(OP, "weight", weight.shape(), [hidden])?;
    expect_shape(OP, "bias", bias.shape(), [hidden])?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::layernorm::layernorm(&cuda, &out, x, weight, bias, eps);
    }
    cpu::layernorm::layernorm(&mut out, x, weight.host(), bias.host(), eps);
    Ok(())
}
