//! Configs told from the shapes of a single file, which comes without any; what shapes cannot tell
//! has FLUX.1's value.

use crate::error::Error;
use crate::error::Result;
use crate::model::config::ClipConfig;
use crate::model::config::FluxConfig;
use crate::model::config::T5Config;
use crate::model::config::VaeConfig;
use crate::model::config::default_axes;
use crate::model::weights::reader::Reader;

impl Reader<'_> {
    /// The shape of a tensor that every file of this component has.
    fn dims<const R: usize>(&self, name: &str) -> Result<[usize; R]> {
        let error = |actual: String| Error::Weight {
            file: self.path().into(),
            tensor: name.into(),
            expected: format!("a tensor of {R} dimensions above 0, to tell the model's sizes by"),
            actual,
        };
        let shape = self.shape(name).ok_or_else(|| error("no such tensor".into()))?;
        let dims =
            shape.try_into().ok().filter(|dims: &[usize; R]| dims.iter().all(|dim| *dim > 0));
        dims.ok_or_else(|| error(format!("shape {shape:?}")))
    }
}

impl FluxConfig {
    /// The config of a transformer without `config.json`.
    ///
    /// # Errors
    /// [`Error::Weight`] if a tensor is missing that tells a size, or if the head size is not 128:
    /// then shapes do not tell how it is divided among the axes; [`Error::Config`] for sizes that no model has.
    pub fn infer(reader: &Reader<'_>) -> Result<Self> {
        let [hidden, in_channels] = reader.dims("x_embedder.weight")?;
        let [_, joint_attention_dim] = reader.dims("context_embedder.weight")?;
        let pooled = "time_text_embed.text_embedder.linear_1.weight";
        let [_, pooled_projection_dim] = reader.dims(pooled)?;
        let [out_channels, _] = reader.dims("proj_out.weight")?;
        let norm = "transformer_blocks.0.attn.norm_q.weight";
        let [head] = reader.dims(norm)?;
        let axes_dims_rope = default_axes();
        let usual: usize = axes_dims_rope.iter().sum();
        if head != usual || !hidden.is_multiple_of(head) {
            let expected =
                format!("head size {usual}, the only one a file without config.json can have");
            let (file, actual) = (reader.path().into(), format!("{head} of {hidden}"));
            return Err(Error::Weight { file, tensor: norm.into(), expected, actual });
        }
        let config = Self {
            in_channels,
            out_channels: Some(out_channels),
            num_layers: reader.count("transformer_blocks."),
            num_single_layers: reader.count("single_transformer_blocks."),
            attention_head_dim: head,
            num_attention_heads: hidden / head,
            joint_attention_dim,
            pooled_projection_dim,
            guidance_embeds: reader
                .shape("time_text_embed.guidance_embedder.linear_1.bias")
                .is_some(),
            axes_dims_rope,
        };
        config.expect_sound(reader.path())?;
        Ok(config)
    }
}

impl VaeConfig {
    /// The config of a VAE without `config.json`.
    ///
    /// # Errors
    /// [`Error::Weight`] if a tensor is missing that tells a size; [`Error::Config`] for sizes that no model has.
    pub fn infer(reader: &Reader<'_>) -> Result<Self> {
        const GROUPS: usize = 32;
        let [_, latent_channels, _, _] = reader.dims("decoder.conv_in.weight")?;
        let levels = reader.count("encoder.down_blocks.");
        let channels = |level| -> Result<usize> {
            let [out] =
                reader.dims(&format!("encoder.down_blocks.{level}.resnets.0.conv1.bias"))?;
            Ok(out)
        };
        let block_out_channels: Vec<usize> = (0..levels).map(channels).collect::<Result<_>>()?;
        if let Some(odd) =
            block_out_channels.iter().find(|channels| !channels.is_multiple_of(GROUPS))
        {
            let (file, tensor) = (reader.path().into(), "encoder.down_blocks".into());
            let expected = format!("channels in {GROUPS} groups, since there is no config.json");
            return Err(Error::Weight { file, tensor, expected, actual: format!("{odd}") });
        }
        let config = Self {
            latent_channels,
            block_out_channels,
            layers_per_block: reader.count("encoder.down_blocks.0.resnets."),
            norm_num_groups: GROUPS,
            mid_block_add_attention: reader
                .shape("decoder.mid_block.attentions.0.to_q.weight")
                .is_some(),
            sample_size: 1024,
            scaling_factor: 0.3611,
            shift_factor: 0.1159,
        };
        config.expect_sound(reader.path())?;
        Ok(config)
    }
}

impl ClipConfig {
    /// The config of a CLIP text encoder without `config.json`.
    ///
    /// # Errors
    /// [`Error::Weight`] if a tensor is missing that tells a size; [`Error::Config`] for sizes that no model has.
    pub fn infer(reader: &Reader<'_>) -> Result<Self> {
        const HEAD_SIZE: usize = 64;
        let [vocab_size, hidden_size] = reader.dims("embeddings.token_embedding.weight")?;
        let [max_position_embeddings, _] = reader.dims("embeddings.position_embedding.weight")?;
        let [intermediate_size, _] = reader.dims("encoder.layers.0.mlp.fc1.weight")?;
        if !hidden_size.is_multiple_of(HEAD_SIZE) {
            let (file, tensor) = (reader.path().into(), "embeddings.token_embedding.weight".into());
            let expected =
                format!("columns in heads of {HEAD_SIZE}, since there is no config.json");
            return Err(Error::Weight { file, tensor, expected, actual: format!("{hidden_size}") });
        }
        let config = Self {
            vocab_size,
            hidden_size,
            intermediate_size,
            num_hidden_layers: reader.count("encoder.layers."),
            num_attention_heads: hidden_size / HEAD_SIZE,
            max_position_embeddings,
            layer_norm_eps: 1e-5,
            eos_token_id: 2,
        };
        config.expect_sound(reader.path())?;
        Ok(config)
    }
}

impl T5Config {
    /// The config of a T5 encoder without `config.json`.
    ///
    /// # Errors
    /// [`Error::Weight`] if a tensor is missing that tells a size; [`Error::Config`] for sizes that no model has.
    pub fn infer(reader: &Reader<'_>) -> Result<Self> {
        let first = "encoder.block.0.layer";
        let [vocab_size, d_model] = reader.dims("shared.weight")?;
        let bias = format!("{first}.0.SelfAttention.relative_attention_bias.weight");
        let [relative_attention_num_buckets, num_heads] = reader.dims(&bias)?;
        let [inner, _] = reader.dims(&format!("{first}.0.SelfAttention.q.weight"))?;
        let [d_ff, _] = reader.dims(&format!("{first}.1.DenseReluDense.wi_0.weight"))?;
        let config = Self {
            vocab_size,
            d_model,
            d_kv: inner / num_heads,
            num_heads,
            d_ff,
            num_layers: reader.count("encoder.block."),
            layer_norm_epsilon: 1e-6,
            relative_attention_num_buckets,
            relative_attention_max_distance: 128,
        };
        config.expect_sound(reader.path())?;
        Ok(config)
    }
}
