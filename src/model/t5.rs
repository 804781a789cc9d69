//! The T5 encoder: token ids in, one state per token out, padding included.
//!
//! Spec flux 6.2; reference `T5EncoderModel` of transformers.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Quantized;
use crate::device::Scaling;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::config::T5Config;
use crate::model::weights::offload::in_turn;
use crate::model::weights::t5::T5BlockWeights;
use crate::model::weights::t5::T5Weights;
use crate::ops::attention::Mask;
use crate::ops::attention::attention;
use crate::ops::embedding::embedding;
use crate::ops::gated_gelu::gated_gelu;
use crate::ops::gemm::Activation;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;
use crate::ops::gemm::gemm;
use crate::ops::gemm::whole;
use crate::ops::quantize::quantize;
use crate::ops::rmsnorm::rmsnorm;

/// `[L, d_model]` of `ids [L]`, computed on the device of the weights.
///
/// # Errors
/// [`crate::Error::Shape`] when an id is outside the vocabulary or the weights do not fit.
pub fn encode(device: &Device, weights: &T5Weights, ids: &[u32]) -> Result<Tensor<Act, 2>> {
    let config = &weights.config;
    let seq = ids.len();
    let ids = Tensor::from_host([seq], ids.to_vec()).to_device(device)?;
    let mut hidden_states = Tensor::empty(device, [seq, config.d_model])?;
    embedding(hidden_states.matrix_mut(), &ids, &weights.token_embedding, None)?;
    let bias = relative_bias(config, &weights.relative_attention_bias, seq).to_device(device)?;
    in_turn(device, &weights.blocks, |block| {
        hidden_states = forward_block(config, block, &hidden_states, &bias)?;
        Ok(())
    })?;
    let mut out = Tensor::empty(device, [seq, config.d_model])?;
    let eps = config.layer_norm_epsilon;
    rmsnorm(out.matrix_mut(), hidden_states.matrix(), &weights.final_norm, eps)?;
    Ok(out)
}

/// One block: attention with position bias, then the gated MLP, each added to the stream.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
pub fn forward_block(
    config: &T5Config,
    weights: &T5BlockWeights,
    input: &Tensor<Act, 2>,
    bias: &Tensor<f32, 2>,
) -> Result<Tensor<Act, 2>> {
    let [seq, d_model] = input.shape();
    let eps = config.layer_norm_epsilon;
    let inner = config.num_heads * config.d_kv;
    let mut normed = Tensor::empty(&input.device(), [seq, d_model])?;
    rmsnorm(normed.matrix_mut(), input.matrix(), &weights.attention_norm, eps)?;
    let mut qkv = Tensor::empty(&input.device(), [seq, 3 * inner])?;
    product(qkv.matrix_mut(), normed.matrix(), None, &weights.qkv)?;
    let qkv = qkv.reshape([seq, 3, config.num_heads, config.d_kv]);
    let mut heads_out = Tensor::empty(&input.device(), [seq, inner])?;
    // T5 has no 1 / sqrt(d): its initialisation holds that factor.
    attention(heads_out.matrix_mut(), &qkv, Mask::Relative(bias), 1.0)?;
    let mut mid = Tensor::empty(&input.device(), [seq, d_model])?;
    product(mid.matrix_mut(), heads_out.matrix(), Some(input.matrix()), &weights.out)?;

    rmsnorm(normed.matrix_mut(), mid.matrix(), &weights.mlp_norm, eps)?;
    let mut up = Tensor::empty(&input.device(), [seq, 2 * config.d_ff])?;
    product(up.matrix_mut(), normed.matrix(), None, &weights.mlp_up)?;
    let mut gated = Tensor::empty(&input.device(), [seq, config.d_ff])?;
    gated_gelu(gated.matrix_mut(), up.matrix())?;
    let mut out = Tensor::empty(&input.device(), [seq, d_model])?;
    product(out.matrix_mut(), gated.matrix(), Some(mid.matrix()), &weights.mlp_down)?;
    Ok(out)
}

/// `out = residual + a W^T`; a layer in e4m3 multiplies `a` in e4m3 as well, with a scale for each row.
fn product(
    out: MatrixMut<'_, Act>,
    a: Matrix<'_, Act>,
    residual: Option<Matrix<'_, Act>>,
    linear: &Linear,
) -> Result<()> {
    let segments = whole(linear, a.shape()[0]);
    if !matches!(linear.weight, Weight::Fp8(_)) {
        return gemm(out, a, residual, &segments, Activation::None);
    }
    let mut quantized = Quantized::empty(&a.device(), a.shape(), Scaling::Row)?;
    quantize(quantized.view_mut(), a, None)?;
    gemm(out, quantized.view(), residual, &segments, Activation::None)
}

/// `[H, 2 L - 1]` in host memory: the bias of key k for query q in column `k - q + L - 1`, from `[buckets, H]`.
#[must_use]
pub fn relative_bias(config: &T5Config, table: &Tensor<f32, 2>, seq: usize) -> Tensor<f32, 2> {
    let [_, heads] = table.shape();
    let columns = (2 * seq).saturating_sub(1);
    let mut bias = Tensor::zeros([heads, columns]);
    let mut view = bias.matrix_mut();
    for head in 0..heads {
        for (column, value) in view.row_mut(head).iter_mut().enumerate() {
            let bucket = bucket(
                column.abs_diff(seq - 1),
                column >= seq,
                config.relative_attention_num_buckets,
                config.relative_attention_max_distance,
            );
            *value = table.matrix().row(bucket)[head];
        }
    }
    bias
}

/// The bucket of a key `distance` tokens away, after the query or not.
///
/// Half of the buckets are for each direction; of those the first half are exact distances, the
/// rest grow logarithmically up to `max_distance`.
#[expect(clippy::cast_possible_truncation, reason = "a bucket is a small whole number")]
#[expect(clippy::cast_sign_loss, reason = "the distance is above `exact`, its logarithm positive")]
fn bucket(distance: usize, after: bool, buckets: usize, max_distance: usize) -> usize {
    let half = buckets / 2;
    let exact = half / 2;
    let base = if after { half } else { 0 };
    if distance < exact {
        return base + distance;
    }
    let ratio =
        (distance as f32 / exact as f32).ln() / (max_distance as f64 / exact as f64).ln() as f32;
    base + (exact + (ratio * (half - exact) as f32) as usize).min(half - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_change_where_the_spec_says() {
        // Spec flux 6.2: the first distance of each bucket.
        let firsts = [0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91];
        for distance in 0..600 {
            let expected = firsts.iter().rposition(|&first| distance >= first).expect("0 is first");
            assert_eq!(bucket(distance, false, 32, 128), expected, "distance {distance}");
            assert_eq!(bucket(distance, true, 32, 128), expected + 16, "distance {distance}");
        }
    }
}
