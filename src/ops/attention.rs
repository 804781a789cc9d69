//! Attention over a fused q, k, v buffer: `softmax(scale * q k^T + mask) v`, heads side by side in
//! the output.
//!
//! One op for all networks: joint and unmasked in the transformer (spec flux 3.4), causal in CLIP
//! (6.1), with relative position bias in T5 (6.2), one wide head in the VAE (7.1).

use crate::device::Act;
use crate::device::Device;
use crate::device::Output;
use crate::device::QuantizedQkv;
use crate::device::Tensor;
use crate::device::quantized_qkv::KEY_PADDING;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cpu::quantize::with_output;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "attention";

/// What is added to the scores.
#[derive(Debug, Clone, Copy)]
pub enum Mask<'a> {
    /// Every query sees every key.
    None,
    /// A query sees the keys up to its own position.
    Causal,
    /// `[H, 2 S - 1]`: head `h` adds column `k - q + S - 1` to the score of query q and key k.
    Relative(&'a Tensor<f32, 2>),
}

/// `out [S, H Dh]` from `qkv [S, 3, H, Dh]`; the softmax is in f32.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together, [`crate::Error::Device`] where a GPU
/// has no kernel for e4m3.
pub fn attention<'out>(
    out: impl Into<Output<'out>>,
    qkv: &Tensor<Act, 4>,
    mask: Mask<'_>,
    scale: f32,
) -> Result<()> {
    let out = out.into();
    let [seq, three, heads, head_dim] = qkv.shape();
    expect_shape(OP, "qkv", [three], [3])?;
    expect_shape(OP, "out", out.shape(), [seq, heads * head_dim])?;
    if let Mask::Relative(bias) = mask {
        expect_shape(OP, "bias", bias.shape(), [heads, (2 * seq).saturating_sub(1)])?;
    }
    if let Device::Cuda(cuda) = out.device() {
        return cuda::quantize::through_staging(&cuda, OP, &out, |out| {
            cuda::attention::attention(&cuda, out, qkv, mask, scale)
        });
    }
    with_output(out, |mut out| cpu::attention::attention(&mut out, qkv, mask, scale));
    Ok(())
}

/// As [`attention()`] without a mask, from q, k and v in e4m3. Probabilities are multiplied in e4m3 as
/// well, 2^4 times as large as they are beside the row's largest, rounded up to a power of two; a row
/// is divided by the sum of what was multiplied.
///
/// # Errors
/// As [`attention()`].
pub fn attention_fp8<'out>(
    out: impl Into<Output<'out>>,
    qkv: &QuantizedQkv,
    v_units: &Tensor<f32, 1>,
    scale: f32,
) -> Result<()> {
    let out = out.into();
    let [seq, two, heads, head_dim] = qkv.qk.shape();
    expect_shape(OP, "q and k", [two], [2])?;
    expect_shape(OP, "v_units", v_units.shape(), [heads * head_dim])?;
    expect_shape(OP, "v", qkv.v.shape(), [heads, head_dim, seq.next_multiple_of(KEY_PADDING)])?;
    expect_shape(OP, "out", out.shape(), [seq, heads * head_dim])?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::attention::attention_fp8(&cuda, &out, qkv, v_units, scale);
    }
    with_output(out, |mut out| cpu::attention::attention_fp8(&mut out, qkv, v_units, scale));
    Ok(())
}
