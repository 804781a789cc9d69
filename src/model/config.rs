//! The sizes of every network, read from the model's JSON files; defaults only where
//! diffusers' older files leave a field out.

mod check;
mod fields;
mod limits;

pub(crate) use fields::Fields;

use serde::Deserialize;
use serde::Serialize;
use serde_json::Value;
use serde_json::json;

/// `transformer/config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct FluxConfig {
    /// Channels of a packed token that go in: 64, more for Fill and Control.
    pub in_channels: usize,
    /// Channels that come out; absent or null means `in_channels`.
    pub out_channels: Option<usize>,
    /// Double blocks.
    pub num_layers: usize,
    /// Single blocks.
    pub num_single_layers: usize,
    /// Dh.
    pub attention_head_dim: usize,
    /// H; the hidden size D is H * Dh.
    pub num_attention_heads: usize,
    /// Width of the T5 states.
    pub joint_attention_dim: usize,
    /// Width of CLIP's pooled vector.
    pub pooled_projection_dim: usize,
    /// Whether the guidance strength is embedded (dev) or not (schnell).
    pub guidance_embeds: bool,
    /// Head dimensions of the three position axes.
    #[serde(default = "default_axes")]
    pub axes_dims_rope: [usize; 3],
}

pub(crate) fn default_axes() -> [usize; 3] {
    [16, 56, 56]
}

impl FluxConfig {
    /// Width of the sinusoid of timestep and guidance; never in the config.
    pub const SINUSOID_WIDTH: usize = 256;
    /// Width of the MLP per hidden size; never in the config.
    pub const MLP_RATIO: usize = 4;

    /// As diffusers writes it.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let mut document = json!(self);
        document["_class_name"] = json!("FluxTransformer2DModel");
        document["patch_size"] = json!(1);
        document
    }

    /// D = H * Dh.
    #[must_use]
    pub fn hidden_size(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// M = 4 D.
    #[must_use]
    pub fn mlp_size(&self) -> usize {
        Self::MLP_RATIO * self.hidden_size()
    }

    /// `1 / sqrt(Dh)`, which multiplies the attention scores.
    #[must_use]
    #[expect(clippy::cast_possible_truncation, reason = "the scale is an f32")]
    pub fn attention_scale(&self) -> f32 {
        (1.0 / (self.attention_head_dim as f64).sqrt()) as f32
    }

    /// Channels of a packed token that come out.
    #[must_use]
    pub fn out_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }
}

/// `vae/config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct VaeConfig {
    /// Channels of a latent.
    pub latent_channels: usize,
    /// Channels of each level, finest first.
    pub block_out_channels: Vec<usize>,
    /// Resnets of an encoder level; a decoder level has one more.
    pub layers_per_block: usize,
    /// Groups of every GroupNorm.
    pub norm_num_groups: usize,
    /// Whether the middle block has attention.
    #[serde(default = "default_true")]
    pub mid_block_add_attention: bool,
    /// Pixels of the image the model was made for, the default width and height.
    pub sample_size: usize,
    /// `latents = (z - shift_factor) * scaling_factor`.
    pub scaling_factor: f32,
    /// See `scaling_factor`.
    pub shift_factor: f32,
}

impl VaeConfig {
    /// Levels of encoder and decoder, each but the last halving the sides.
    pub const LEVELS: usize = 4;
    /// Pixels on a side of a latent.
    pub const PIXELS_PER_LATENT: usize = 1 << (Self::LEVELS - 1);
}

fn default_true() -> bool {
    true
}

/// `text_encoder/config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ClipConfig {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// D.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Layers.
    pub num_hidden_layers: usize,
    /// H.
    pub num_attention_heads: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// 1e-5 for CLIP-L.
    #[serde(default = "default_clip_eps")]
    pub layer_norm_eps: f32,
    /// 2 selects the legacy rule: the first largest id ends the text.
    pub eos_token_id: u32,
}

fn default_clip_eps() -> f32 {
    1e-5
}

/// `text_encoder_2/config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct T5Config {
    /// Rows of the token embedding.
    pub vocab_size: usize,
    /// Hidden size.
    pub d_model: usize,
    /// Head size.
    pub d_kv: usize,
    /// H; `num_heads * d_kv` need not be `d_model`.
    pub num_heads: usize,
    /// Width of the MLP.
    pub d_ff: usize,
    /// Blocks.
    pub num_layers: usize,
    /// 1e-6 for T5.
    pub layer_norm_epsilon: f32,
    /// Rows of the position bias table.
    pub relative_attention_num_buckets: usize,
    /// Distance from which all positions share a bucket.
    #[serde(default = "default_max_distance")]
    pub relative_attention_max_distance: usize,
}

fn default_max_distance() -> usize {
    128
}

/// `scheduler/scheduler_config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct SchedulerConfig {
    /// 1000.
    pub num_train_timesteps: usize,
    /// Static shift, used when `use_dynamic_shifting` is false.
    pub shift: f64,
    /// Whether the shift follows the number of image tokens (dev) or is static (schnell).
    pub use_dynamic_shifting: bool,
    /// mu at `base_image_seq_len` tokens.
    #[serde(default = "default_base_shift")]
    pub base_shift: f64,
    /// mu at `max_image_seq_len` tokens.
    #[serde(default = "default_max_shift")]
    pub max_shift: f64,
    /// See `base_shift`.
    #[serde(default = "default_base_seq_len")]
    pub base_image_seq_len: usize,
    /// See `max_shift`.
    #[serde(default = "default_max_seq_len")]
    pub max_image_seq_len: usize,
}

impl SchedulerConfig {
    /// FLUX.1's, for models without a file: dev's (`dynamic`) or schnell's.
    #[must_use]
    pub fn flux(dynamic: bool) -> Self {
        Self {
            num_train_timesteps: 1000,
            shift: if dynamic { 3.0 } else { 1.0 },
            use_dynamic_shifting: dynamic,
            base_shift: default_base_shift(),
            max_shift: default_max_shift(),
            base_image_seq_len: default_base_seq_len(),
            max_image_seq_len: default_max_seq_len(),
        }
    }
}

fn default_base_shift() -> f64 {
    0.5
}

fn default_max_shift() -> f64 {
    1.15
}

fn default_base_seq_len() -> usize {
    256
}

fn default_max_seq_len() -> usize {
    4096
}
