//! A single block: attention and MLP side by side over the joint sequence.
//!
//! Spec flux 3.5; reference `FluxSingleTransformerBlock` of diffusers.

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::flux::BlockModulation;
use crate::model::flux::BlockOutput;
use crate::model::flux::Prepared;
use crate::model::flux::Scratch;
use crate::model::plan::SinglePlan;
use crate::model::weights::blocks::SingleBlockWeights;
use crate::ops::gemm::Segment;
use crate::ops::gemm_qkv::QkvSegment;
use crate::ops::gemm_qkv::gemm_qkv;
use crate::ops::layernorm_modulate::ModulateSegment;
use crate::ops::layernorm_modulate::layernorm_modulate;

/// `out [S, D]` from `input [S, D]`, text rows first.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together, or weights or buffers are not there
/// in the precisions of `plan`.
pub fn forward(
    out: BlockOutput<'_>,
    scratch: &mut Scratch,
    input: &Tensor<Act, 2>,
    weights: &SingleBlockWeights,
    modulation: BlockModulation<'_>,
    prepared: &Prepared,
    plan: &SinglePlan,
) -> Result<()> {
    let [seq, _] = input.shape();
    let BlockModulation { shift, scale, gate } = modulation;
    let Scratch { sizes: full, normed, qkvs, attention_mlp, .. } = scratch;
    let full = *full;
    let sizes = full.narrowed(plan.width);
    let qkv = qkvs.of(sizes.heads)?;

    let segments = [ModulateSegment { rows: 0..seq, shift, scale }];
    layernorm_modulate(normed.write(plan.linear1)?, input.matrix(), &segments)?;
    let segments = [QkvSegment {
        rows: 0..seq,
        linear: weights.linear1.at(plan.linear1_form(full))?,
        q_norm: &weights.q_norm,
        k_norm: &weights.k_norm,
    }];
    let units = weights.units.at(&sizes);
    let mlp = attention_mlp.write_mlp(plan.linear2, sizes, units)?;
    let qkv_out = qkv.write(weights.qk_bounds, units, plan.attention)?;
    gemm_qkv(qkv_out, Some(mlp), normed.read(plan.linear1)?, &segments, &prepared.rope)?;
    let heads_out = attention_mlp.write_attention(plan.linear2, sizes, units)?;
    qkv.attention(heads_out, units, prepared.attention_scale, plan.attention)?;
    let linear = weights.linear2.at(plan.linear2_form(full))?;
    let segments = [Segment { rows: 0..seq, linear, gate: Some(gate) }];
    let both = attention_mlp.both(plan.linear2, sizes)?;
    out.add(both, input.matrix(), &segments)
}
