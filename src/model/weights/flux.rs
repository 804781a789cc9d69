//! The transformer's weights.

use crate::error::Result;
use crate::model::config::FluxConfig;
use crate::model::weights::blocks::DoubleBlockWeights;
use crate::model::weights::blocks::SingleBlockWeights;
use crate::model::weights::elastic::FluxLayout;
use crate::model::weights::offload::Residence;
use crate::model::weights::reader::Reader;
use crate::model::weights::tensor_source::Network;
use crate::model::weights::tensor_source::Part;
use crate::model::weights::tensor_source::Placement;
use crate::model::weights::tensor_source::TensorSource;
use crate::ops::gemm::Linear;

/// A two-layer embedder of the conditioning vector: `out(SiLU(in(x)))`.
#[derive(Debug)]
pub struct EmbedderWeights {
    /// `[D, width of the input]`.
    pub in_layer: Linear,
    /// `[D, D]`.
    pub out_layer: Linear,
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
    /// Every adaLN linear, in all `[2 * 6 D * double + 3 D * single + 2 D, D]`: for each double
    /// block img then txt (shift, scale, gate of attention, then of the MLP), for each single block
    /// (shift, scale, gate), at last the final layer's (shift, scale).
    pub modulation: Vec<Residence<Linear>>,
    /// Double blocks in order.
    pub double: Vec<DoubleBlockWeights>,
    /// Single blocks in order.
    pub single: Vec<SingleBlockWeights>,
    /// `[out_channels, D]`.
    pub proj_out: Linear,
}

impl FluxWeights {
    /// Reads the transformer; its tensors go where `placement` says.
    ///
    /// # Errors
    /// [`crate::Error::Weight`] for a tensor that is missing, extra or misshapen.
    pub fn load(
        reader: &mut Reader<'_>,
        layout: &FluxLayout,
        placement: impl Into<Placement>,
    ) -> Result<Self> {
        reader.checked(placement.into(), |reader| Self::read(reader, layout))
    }
}

impl Network for FluxWeights {
    type Config = FluxLayout;

    fn read(reader: &mut impl TensorSource, layout: &FluxLayout) -> Result<Self> {
        let config = &layout.config;
        let d = config.hidden_size();
        let mut linear = |name: &str, rows, cols| reader.linear(&[Part::whole(name, rows)], cols);
        let x_embedder = linear("x_embedder", d, config.in_channels)?;
        let context_embedder = linear("context_embedder", d, config.joint_attention_dim)?;
        let proj_out = linear("proj_out", config.out_channels(), d)?;
        let mut embedder = |name: &str, width| -> Result<EmbedderWeights> {
            Ok(EmbedderWeights {
                in_layer: linear(&format!("time_text_embed.{name}.linear_1"), d, width)?,
                out_layer: linear(&format!("time_text_embed.{name}.linear_2"), d, d)?,
            })
        };
        let time = embedder("timestep_embedder", FluxConfig::SINUSOID_WIDTH)?;
        let guidance = match config.guidance_embeds {
            true => Some(embedder("guidance_embedder", FluxConfig::SINUSOID_WIDTH)?),
            false => None,
        };
        let pooled = embedder("text_embedder", config.pooled_projection_dim)?;
        let layers = modulation_parts(config);
        let resident = layers.len().saturating_sub(reader.residency().modulation_offloaded);
        let modulation = |(index, parts): (usize, &Vec<Part>)| {
            reader.residence(index >= resident, |reader| reader.linear(parts, d))
        };
        let modulation = layers.iter().enumerate().map(modulation).collect::<Result<_>>()?;
        let double = (0..config.num_layers)
            .map(|block| DoubleBlockWeights::read(reader, layout, block))
            .collect::<Result<_>>()?;
        let single = (0..config.num_single_layers)
            .map(|block| SingleBlockWeights::read(reader, layout, block))
            .collect::<Result<_>>()?;
        Ok(Self {
            config: config.clone(),
            x_embedder,
            context_embedder,
            time,
            guidance,
            pooled,
            modulation,
            double,
            single,
            proj_out,
        })
    }
}

/// The adaLN linears in the order of [`FluxWeights::modulation`].
fn modulation_parts(config: &FluxConfig) -> Vec<Vec<Part>> {
    let d = config.hidden_size();
    let mut layers = Vec::new();
    for block in 0..config.num_layers {
        for norm in ["norm1", "norm1_context"] {
            let name = format!("transformer_blocks.{block}.{norm}.linear");
            layers.push(vec![Part::whole(name, 6 * d)]);
        }
    }
    for block in 0..config.num_single_layers {
        let name = format!("single_transformer_blocks.{block}.norm.linear");
        layers.push(vec![Part::whole(name, 3 * d)]);
    }
    // Diffusers stores (scale, shift).
    let last = [d..2 * d, 0..d].map(|rows| Part::some("norm_out.linear", 2 * d, rows));
    layers.push(last.into());
    layers
}
