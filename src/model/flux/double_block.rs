//! A double block: text and image have weights of their own and meet in the attention.
//!
//! Spec flux 3.4; reference `FluxTransformerBlock` of diffusers.

use std::ops::Range;

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::flux::Prepared;
use crate::model::flux::Scratch;
use crate::model::flux::add_to_stream;
use crate::model::flux::modulation::BlockModulation;
use crate::model::flux::modulation::DoubleModulation;
use crate::model::weights::flux::DoubleBlockWeights;
use crate::ops::ModulationVector;
use crate::ops::attention::Mask;
use crate::ops::attention::attention;
use crate::ops::gemm::Activation;
use crate::ops::gemm::Difference;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Segment;
use crate::ops::gemm::gemm;
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
    weights: &DoubleBlockWeights,
    modulation: &DoubleModulation<'_>,
    prepared: &Prepared,
) -> Result<()> {
    let [seq, hidden] = input.shape();
    let [txt_len, _] = prepared.txt.shape();
    let rows = [0..txt_len, txt_len..seq];
    let DoubleBlockWeights { txt, img } = weights;
    let Scratch { mid, normed, qkv, attention_mlp } = scratch;

    let streams = [modulation.txt_attention, modulation.img_attention];
    layernorm_modulate(normed.matrix_mut(), input.matrix(), &modulate(&rows, streams))?;
    let segments = [(0, txt), (1, img)].map(|(index, stream)| QkvSegment {
        rows: rows[index].clone(),
        linear: &stream.qkv,
        q_norm: &stream.q_norm,
        k_norm: &stream.k_norm,
    });
    gemm_qkv(qkv, None, normed.matrix(), &segments, &prepared.rope)?;
    let heads_out = attention_mlp.matrix_mut().columns(0..hidden);
    attention(heads_out, qkv, Mask::None, prepared.attention_scale)?;
    let heads_out = attention_mlp.matrix().columns(0..hidden);
    let segments = gated(&rows, [&txt.out, &img.out], streams.map(|stream| Some(stream.gate)));
    gemm(mid.matrix_mut(), heads_out, Some(input.matrix()), &segments, Activation::None)?;

    let streams = [modulation.txt_mlp, modulation.img_mlp];
    layernorm_modulate(normed.matrix_mut(), mid.matrix(), &modulate(&rows, streams))?;
    let [_, width] = attention_mlp.shape();
    let segments = gated(&rows, [&txt.mlp_up, &img.mlp_up], [None, None]);
    let mlp = attention_mlp.matrix_mut().columns(hidden..width);
    gemm(mlp, normed.matrix(), None, &segments, Activation::GeluTanh)?;
    let mlp = attention_mlp.matrix().columns(hidden..width);
    let gates = streams.map(|stream| Some(stream.gate));
    let segments = gated(&rows, [&txt.mlp_down, &img.mlp_down], gates);
    add_to_stream(out.matrix_mut(), difference, mlp, mid.matrix(), &segments)
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
