//! q, k and v of an attention to e4m3, laid out for tensor cores: q and k with a scale each, v in units
//! of its channels. `value = x * (1 / scale)` or `x / unit` to the nearest.

use crate::device::Act;
use crate::device::Device;
use crate::device::QuantizedQkv;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "quantize_qkv";

/// `out` from `qkv [S, 3, H, Dh]`. No element of q is larger than `bounds[0]`, none of k than
/// `bounds[1]`: `sqrt(Dh)` times the largest weight of their RMSNorm. `v_units` are `[H Dh]`, powers of
/// two.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together, on a GPU also for heads of no
/// multiple of 16.
pub fn quantize_qkv(
    out: &mut QuantizedQkv,
    qkv: &Tensor<Act, 4>,
    bounds: [f32; 2],
    v_units: &Tensor<f32, 1>,
) -> Result<()> {
    expect_quantized(OP, out, qkv, v_units)?;
    out.set_bounds(bounds);
    if let Device::Cuda(cuda) = qkv.device() {
        return cuda::quantize_qkv::quantize_qkv(&cuda, out, qkv, v_units);
    }
    cpu::quantize_qkv::quantize_qkv(out, qkv, v_units);
    Ok(())
}

/// Fails unless `out` has room for `qkv [S, 3, H, Dh]`.
pub(crate) fn expect_quantized(
    op: &'static str,
    out: &QuantizedQkv,
    qkv: &Tensor<Act, 4>,
    v_units: &Tensor<f32, 1>,
) -> Result<()> {
    let [seq, three, heads, head_dim] = qkv.shape();
    expect_shape(op, "qkv", [three], [3])?;
    expect_shape(op, "v_units", v_units.shape(), [heads * head_dim])?;
    expect_shape(op, "out", out.qk.shape(), [seq, 2, heads, head_dim])
}
