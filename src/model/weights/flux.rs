//! The transformer's weights.

use crate::device::Tensor;
use crate::model::config::FluxConfig;
use crate::ops::gemm::Linear;

/// A two-layer embedder of the conditioning vector: `out(SiLU(in(x)))`.
#[derive(Debug)]
pub struct EmbedderWeights {
    /// `[D, width of the input]`.
    pub in_layer: Linear,
    /// `[D, D]`.
    pub out_layer: Linear,
}

/// One stream (img or txt) of a double block.
#[derive(Debug)]
pub struct StreamWeights {
    /// `[3 D, D]`: q, k, v rows.
    pub qkv: Linear,
    /// `[Dh]`.
    pub q_norm: Tensor<f32, 1>,
    /// `[Dh]`.
    pub k_norm: Tensor<f32, 1>,
    /// `[D, D]`.
    pub out: Linear,
    /// `[M, D]`.
    pub mlp_up: Linear,
    /// `[D, M]`.
    pub mlp_down: Linear,
}

/// A double block: the two streams with their own weights.
#[derive(Debug)]
pub struct DoubleBlockWeights {
    /// Image stream.
    pub img: StreamWeights,
    /// Text stream.
    pub txt: StreamWeights,
}

/// A single block over the joint sequence.
#[derive(Debug)]
pub struct SingleBlockWeights {
    /// `[3 D + M, D]`: q, k, v, MLP rows.
    pub linear1: Linear,
    /// `[Dh]`.
    pub q_norm: Tensor<f32, 1>,
    /// `[Dh]`.
    pub k_norm: Tensor<f32, 1>,
    /// `[D, D + M]`: columns of the attention output, then of the MLP.
    pub linear2: Linear,
}

/// The whole transformer.
#[derive(Debug)]
pub struct FluxWeights {
    /// Sizes.
    pub config: FluxConfig,
    /// `[D, in_channels]`.
    pub x_embedder: Linear,
    /// `[D, joint_attention_dim]`.
    pub context_embedder: Linear,
    /// Of the timestep's sinusoid.
    pub time: EmbedderWeights,
    /// Of the guidance's sinusoid; absent in schnell.
    pub guidance: Option<EmbedderWeights>,
    /// Of CLIP's pooled vector.
    pub pooled: EmbedderWeights,
    /// Every adaLN linear, stacked, `[2 * 6 D * double + 3 D * single + 2 D, D]`: for each double
    /// block img then txt (shift, scale, gate of attention, then of the MLP), for each single block
    /// (shift, scale, gate), at last the final layer's (shift, scale).
    pub modulation: Linear,
    /// Double blocks in order.
    pub double: Vec<DoubleBlockWeights>,
    /// Single blocks in order.
    pub single: Vec<SingleBlockWeights>,
    /// `[out_channels, D]`.
    pub proj_out: Linear,
}
