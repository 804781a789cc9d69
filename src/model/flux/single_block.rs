//! A single block: attention and MLP side by side over the joint sequence.
//!
//! Spec flux 3.5; reference `FluxSingleTransformerBlock` of diffusers.

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::flux::BlockModulation;
use crate::model::flux::Prepared;
use crate::model::flux::Scratch;
use crate::model::flux::add_to_stream;
use crate::model::weights::flux::SingleBlockWeights;
use crate::ops::attention::Mask;
use crate::ops::attention::attention;
use crate::ops::gemm::Difference;
use crate::ops::gemm::Segment;
use crate::ops::gemm_qkv::QkvSegment;
use crate::ops::gemm_qkv::gemm_qkv;
use crate::ops::layernorm_modulate::ModulateSegment;
use crate::ops::layernorm_modulate::layernorm_modulate;

/// `out [S, D]` from `input [S, D]`, text rows first; `difference`, if asked for, from an earlier stream.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn forward(
    out: &mut Tensor<Act, 2>,
    difference: Option<Difference<'_>>,
    scratch: &mut Scratch,
    input: &Tensor<Act, 2>,
    weights: &SingleBlockWeights,
    modulation: BlockModulation<'_>,
    prepared: &Prepared,
) -> Result<()> {
    let [seq, hidden] = input.shape();
    let BlockModulation { shift, scale, gate } = modulation;
    let Scratch { normed, qkv, attention_mlp, .. } = scratch;
    let [_, width] = attention_mlp.shape();

    let segments = [ModulateSegment { rows: 0..seq, shift, scale }];
    layernorm_modulate(normed.matrix_mut(), input.matrix(), &segments)?;
    let segments = [QkvSegment {
        rows: 0..seq,
        linear: &weights.linear1,
        q_norm: &weights.q_norm,
        k_norm: &weights.k_norm,
    }];
    let mlp = attention_mlp.matrix_mut().columns(hidden..width);
    gemm_qkv(qkv, Some(mlp.into()), normed.matrix(), &segments, &prepared.rope)?;
    let heads_out = attention_mlp.matrix_mut().columns(0..hidden);
    attention(heads_out, qkv, Mask::None, prepared.attention_scale)?;
    let segments = [Segment { rows: 0..seq, linear: &weights.linear2, gate: Some(gate) }];
    add_to_stream(out.matrix_mut(), difference, attention_mlp.matrix(), input.matrix(), &segments)
}
