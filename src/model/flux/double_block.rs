//! A double block: text and image have weights of their own and meet in the attention.
//!
//! Spec flux 3.4; reference `FluxTransformerBlock` of diffusers.

use std::ops::Range;

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::flux::BlockOutput;
use crate::model::flux::Prepared;
use crate::model::flux::Scratch;
use crate::model::flux::modulation::BlockModulation;
use crate::model::flux::modulation::DoubleModulation;
use crate::model::plan::DoublePlan;
use crate::model::plan::LayerForm;
use crate::model::weights::blocks::DoubleBlockWeights;
use crate::model::weights::blocks::StreamWeights;
use crate::ops::ModulationVector;
use crate::ops::gemm::Activation;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Segment;
use crate::ops::gemm::gemm;
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
    weights: &DoubleBlockWeights,
    modulation: &DoubleModulation<'_>,
    prepared: &Prepared,
    plan: &DoublePlan,
) -> Result<()> {
    let [seq, _] = input.shape();
    let [txt_len, _] = prepared.txt.shape();
    let rows = [0..txt_len, txt_len..seq];
    let DoubleBlockWeights { txt, img, units } = weights;
    let Scratch { sizes: full, mid, normed, qkvs, attention_mlp } = scratch;
    let full = *full;
    let sizes = full.narrowed(plan.width);
    let units = units.at(&sizes);
    let qkv = qkvs.of(sizes.heads)?;

    let streams = [modulation.txt_attention, modulation.img_attention];
    let normed_rows = modulate(&rows, streams);
    layernorm_modulate(normed.write(plan.qkv)?, input.matrix(), &normed_rows)?;
    let segments = [
        qkv_segment(rows[0].clone(), txt, plan.qkv_form(full))?,
        qkv_segment(rows[1].clone(), img, plan.qkv_form(full))?,
    ];
    let bounds = [0, 1].map(|part| txt.qk_bounds[part].max(img.qk_bounds[part]));
    let qkv_out = qkv.write(bounds, units, plan.attention)?;
    gemm_qkv(qkv_out, None, normed.read(plan.qkv)?, &segments, &prepared.rope)?;
    let heads_out = attention_mlp.write_attention(plan.out, sizes, units)?;
    qkv.attention(heads_out, units, prepared.attention_scale, plan.attention)?;
    let heads_out = attention_mlp.attention(plan.out, sizes)?;
    let form = plan.out_form(full);
    let linears = [txt.out.at(form)?, img.out.at(form)?];
    let segments = gated(&rows, linears, streams.map(|stream| Some(stream.gate)));
    gemm(mid.matrix_mut(), heads_out, Some(input.matrix()), &segments, Activation::None)?;

    let streams = [modulation.txt_mlp, modulation.img_mlp];
    let normed_rows = modulate(&rows, streams);
    layernorm_modulate(normed.write(plan.mlp_up)?, mid.matrix(), &normed_rows)?;
    let form = plan.mlp_up_form(full);
    let linears = [txt.mlp_up.at(form)?, img.mlp_up.at(form)?];
    let segments = gated(&rows, linears, [None, None]);
    let mlp = attention_mlp.write_mlp(plan.mlp_down, sizes, units)?;
    gemm(mlp, normed.read(plan.mlp_up)?, None, &segments, Activation::GeluTanh)?;
    let mlp = attention_mlp.mlp(plan.mlp_down, sizes)?;
    let form = plan.mlp_down_form(full);
    let linears = [txt.mlp_down.at(form)?, img.mlp_down.at(form)?];
    let segments = gated(&rows, linears, streams.map(|stream| Some(stream.gate)));
    out.add(mlp, mid.matrix(), &segments)
}

fn qkv_segment(
    rows: Range<usize>,
    stream: &StreamWeights,
    form: LayerForm,
) -> Result<QkvSegment<'_>> {
    let linear = stream.qkv.at(form)?;
    Ok(QkvSegment { rows, linear, q_norm: &stream.q_norm, k_norm: &stream.k_norm })
}

/// The modulation of the two streams, text first.
fn modulate<'a>(
    rows: &[Range<usize>; 2],
    streams: [BlockModulation<'a>; 2],
) -> [ModulateSegment<'a>; 2] {
    let [txt, img] = streams;
    [(0, txt), (1, img)].map(|(index, stream)| ModulateSegment {
        rows: rows[index].clone(),
        shift: stream.shift,
        scale: stream.scale,
    })
}

/// The linear layers of the two streams, text first.
fn gated<'a>(
    rows: &[Range<usize>; 2],
    linears: [&'a Linear; 2],
    gates: [Option<ModulationVector<'a>>; 2],
) -> [Segment<'a>; 2] {
    [0, 1].map(|index| Segment {
        rows: rows[index].clone(),
        linear: linears[index],
        gate: gates[index],
    })
}
