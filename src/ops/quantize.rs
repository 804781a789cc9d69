//! Activations or weights to e4m3: `scale = max(largest magnitude, 1e-12) / 448` over a row, or over
//! 128 columns of it, and `value = x / scale` to the nearest.
//!
//! Most of what is quantised never exists otherwise: the op that makes it quantises as it finishes.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::QuantizedMut;
use crate::device::QuantizedQkv;
use crate::device::Tensor;
use crate::device::e4m3;
use crate::device::operand::no_fp8;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "quantize";

/// `out` from `qkv [S, 3, H, Dh]`. No element of q is larger than `bounds[0]`, none of k than
/// `bounds[1]`: `sqrt(Dh)` times the largest weight of their RMSNorm. v has a scale for each head and
/// channel.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together, [`crate::Error::Device`] on a GPU, which
/// has no kernel for it yet.
pub fn quantize_qkv(out: &mut QuantizedQkv, qkv: &Tensor<Act, 4>, bounds: [f32; 2]) -> Result<()> {
    let [seq, three, heads, head_dim] = qkv.shape();
    expect_shape(OP, "qkv", [three], [3])?;
    expect_shape(OP, "out", out.qk.shape(), [seq, 2, heads, head_dim])?;
    out.qk_scales = bounds.map(|bound| bound / e4m3::MAX);
    match qkv.device() {
        Device::Cuda(_) => Err(no_fp8(OP)),
        Device::Cpu => {
            cpu::quantize::quantize_qkv(out, qkv);
            Ok(())
        }
    }
}

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
