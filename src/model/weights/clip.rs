//! The CLIP text encoder's weights.

use crate::device::Tensor;
use crate::model::config::ClipConfig;
use crate::ops::gemm::Linear;
use crate::ops::gemm::Weight;

/// An affine LayerNorm.
#[derive(Debug)]
pub struct LayerNormWeights {
    /// `[D]`.
    pub weight: Tensor<f32, 1>,
    /// `[D]`.
    pub bias: Tensor<f32, 1>,
}

/// One pre-norm layer.
#[derive(Debug)]
pub struct ClipLayerWeights {
    /// Before attention.
    pub norm1: LayerNormWeights,
    /// `[3 D, D]`: q, k, v rows.
    pub qkv: Linear,
    /// `[D, D]`.
    pub out: Linear,
    /// Before the MLP.
    pub norm2: LayerNormWeights,
    /// `[intermediate, D]`.
    pub mlp_up: Linear,
    /// `[D, intermediate]`.
    pub mlp_down: Linear,
}

/// The whole encoder.
#[derive(Debug)]
pub struct ClipWeights {
    /// Sizes.
    pub config: ClipConfig,
    /// `[vocab, D]`.
    pub token_embedding: Weight,
    /// `[positions, D]`.
    pub position_embedding: Weight,
    /// Layers in order.
    pub layers: Vec<ClipLayerWeights>,
    /// After the last layer.
    pub final_norm: LayerNormWeights,
}
