//! The CLIP text encoder: token ids in, one pooled vector out.
//!
//! Spec flux 6.1; reference `CLIPTextModel` of transformers. The mask is causal, so the tokens
//! behind the end of the text cannot change the pooled row and are not computed.

use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::config::ClipConfig;
use crate::model::weights::clip::ClipLayerWeights;
use crate::model::weights::clip::ClipWeights;
use crate::ops::attention::Mask;
use crate::ops::attention::attention;
use crate::ops::embedding::embedding;
use crate::ops::gemm::Activation;
use crate::ops::gemm::gemm;
use crate::ops::gemm::whole;
use crate::ops::layernorm::layernorm;

/// The pooled vector `[1, D]`: the final norm of the state at the first end-of-text token.
///
/// # Errors
/// [`crate::Error::Shape`] when an id is outside the vocabulary or the weights do not fit.
pub fn encode(device: &Device, weights: &ClipWeights, ids: &[u32]) -> Result<Tensor<Act, 2>> {
    let config = &weights.config;
    let end = end_of_text(ids, config.eos_token_id);
    let ids = Tensor::from_host([end + 1], ids[..=end].to_vec()).to_device(device)?;
    let mut hidden_states = Tensor::empty(device, [end + 1, config.hidden_size])?;
    let positions = Some(&weights.position_embedding);
    embedding(hidden_states.matrix_mut(), &ids, &weights.token_embedding, positions)?;
    for layer in &weights.layers {
        hidden_states = forward_layer(config, layer, &hidden_states)?;
    }
    let mut pooled = Tensor::empty(device, [1, config.hidden_size])?;
    layernorm(
        pooled.matrix_mut(),
        hidden_states.matrix().rows(end..end + 1),
        &weights.final_norm.weight,
        &weights.final_norm.bias,
        config.layer_norm_eps,
    )?;
    Ok(pooled)
}

/// Where the text ends: the first `eos`, or by the legacy rule (`eos` 2) the first largest id.
fn end_of_text(ids: &[u32], eos: u32) -> usize {
    let target = if eos == 2 { ids.iter().copied().max().unwrap_or(eos) } else { eos };
    ids.iter().position(|&id| id == target).unwrap_or(0)
}

/// One pre-norm layer: causal attention, then the MLP, each added to the stream.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
#[expect(clippy::cast_possible_truncation, reason = "the scale is an f32")]
pub fn forward_layer(
    config: &ClipConfig,
    weights: &ClipLayerWeights,
    input: &Tensor<Act, 2>,
) -> Result<Tensor<Act, 2>> {
    let [seq, hidden] = input.shape();
    let eps = config.layer_norm_eps;
    let head_dim = hidden / config.num_attention_heads;
    let mut normed = Tensor::empty(&input.device(), [seq, hidden])?;
    let norm = &weights.norm1;
    layernorm(normed.matrix_mut(), input.matrix(), &norm.weight, &norm.bias, eps)?;
    let mut qkv = Tensor::empty(&input.device(), [seq, 3 * hidden])?;
    let segments = whole(&weights.qkv, seq);
    gemm(qkv.matrix_mut(), normed.matrix(), None, &segments, Activation::None)?;
    let qkv = qkv.reshape([seq, 3, config.num_attention_heads, head_dim]);
    let mut heads_out = Tensor::empty(&input.device(), [seq, hidden])?;
    let scale = (1.0 / (head_dim as f64).sqrt()) as f32;
    attention(heads_out.matrix_mut(), &qkv, Mask::Causal, scale)?;
    let mut mid = Tensor::empty(&input.device(), [seq, hidden])?;
    let segments = whole(&weights.out, seq);
    let residual = Some(input.matrix());
    gemm(mid.matrix_mut(), heads_out.matrix(), residual, &segments, Activation::None)?;

    let norm = &weights.norm2;
    layernorm(normed.matrix_mut(), mid.matrix(), &norm.weight, &norm.bias, eps)?;
    let mut inner = Tensor::empty(&input.device(), [seq, config.intermediate_size])?;
    let segments = whole(&weights.mlp_up, seq);
    gemm(inner.matrix_mut(), normed.matrix(), None, &segments, Activation::QuickGelu)?;
    let mut out = Tensor::empty(&input.device(), [seq, hidden])?;
    let segments = whole(&weights.mlp_down, seq);
    let residual = Some(mid.matrix());
    gemm(out.matrix_mut(), inner.matrix(), residual, &segments, Activation::None)?;
    Ok(out)
}
