//! The T5 encoder's weights.

use crate::device::Tensor;
use crate::model::config::T5Config;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;

/// One encoder block; no linear has a bias.
#[derive(Debug)]
pub struct T5BlockWeights {
    /// `[d_model]`.
    pub attention_norm: Tensor<f32, 1>,
    /// `[3 * num_heads * d_kv, d_model]`: q, k, v rows.
    pub qkv: Linear,
    /// `[d_model, num_heads * d_kv]`.
    pub out: Linear,
    /// `[d_model]`.
    pub mlp_norm: Tensor<f32, 1>,
    /// `[2 * d_ff, d_model]`: the gated (activated) half `wi_0`, then `wi_1`.
    pub mlp_up: Linear,
    /// `[d_model, d_ff]`.
    pub mlp_down: Linear,
}

/// The whole encoder.
#[derive(Debug)]
pub struct T5Weights {
    /// Sizes.
    pub config: T5Config,
    /// `[vocab, d_model]`.
    pub token_embedding: Weight,
    /// `[buckets, num_heads]`, of block 0, used by all blocks.
    pub relative_attention_bias: Tensor<f32, 2>,
    /// Blocks in order.
    pub blocks: Vec<T5BlockWeights>,
    /// `[d_model]`.
    pub final_norm: Tensor<f32, 1>,
}
