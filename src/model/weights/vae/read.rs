//! The tensors of the VAE and their shapes.

use crate::error::Result;
use crate::model::config::VaeConfig;
use crate::model::weights::tensor_source::Part;
use crate::model::weights::tensor_source::TensorSource;
use crate::model::weights::vae::CoderWeights;
use crate::model::weights::vae::GroupNormWeights;
use crate::model::weights::vae::LevelWeights;
use crate::model::weights::vae::MidBlockWeights;
use crate::model::weights::vae::ResnetWeights;
use crate::model::weights::vae::VaeAttentionWeights;

/// RGB.
const IMAGE_CHANNELS: usize = 3;

pub(super) fn encoder(reader: &mut impl TensorSource, config: &VaeConfig) -> Result<CoderWeights> {
    let channels = &config.block_out_channels;
    let (first, last) = ends(channels);
    let mut levels = Vec::new();
    for (level, &out) in channels.iter().enumerate() {
        let name = format!("encoder.down_blocks.{level}");
        let input = if level == 0 { first } else { channels[level - 1] };
        let resample = (level + 1 < channels.len()).then_some("downsamplers.0.conv");
        levels.push(LevelWeights::read(
            reader,
            &name,
            [input, out],
            config.layers_per_block,
            resample,
        )?);
    }
    Ok(CoderWeights {
        conv_in: reader.conv2d("encoder.conv_in", [first, IMAGE_CHANNELS, 3, 3])?,
        mid: MidBlockWeights::read(reader, "encoder.mid_block", config)?,
        levels,
        norm_out: GroupNormWeights::read(reader, "encoder.conv_norm_out", last)?,
        // Mean and log-variance.
        conv_out: reader.conv2d("encoder.conv_out", [2 * config.latent_channels, last, 3, 3])?,
    })
}

pub(super) fn decoder(reader: &mut impl TensorSource, config: &VaeConfig) -> Result<CoderWeights> {
    let channels = &config.block_out_channels;
    let (first, last) = ends(channels);
    let mut levels = Vec::new();
    let mut input = last;
    for (level, &out) in channels.iter().rev().enumerate() {
        let name = format!("decoder.up_blocks.{level}");
        let resample = (level + 1 < channels.len()).then_some("upsamplers.0.conv");
        let resnets = config.layers_per_block + 1;
        levels.push(LevelWeights::read(reader, &name, [input, out], resnets, resample)?);
        input = out;
    }
    Ok(CoderWeights {
        conv_in: reader.conv2d("decoder.conv_in", [last, config.latent_channels, 3, 3])?,
        mid: MidBlockWeights::read(reader, "decoder.mid_block", config)?,
        levels,
        norm_out: GroupNormWeights::read(reader, "decoder.conv_norm_out", first)?,
        conv_out: reader.conv2d("decoder.conv_out", [IMAGE_CHANNELS, first, 3, 3])?,
    })
}

/// Channels of the finest and of the coarsest level.
fn ends(channels: &[usize]) -> (usize, usize) {
    (channels.first().copied().unwrap_or(0), channels.last().copied().unwrap_or(0))
}

impl LevelWeights {
    fn read(
        reader: &mut impl TensorSource,
        name: &str,
        [input, out]: [usize; 2],
        resnets: usize,
        resample: Option<&str>,
    ) -> Result<Self> {
        let resnet = |index| {
            let input = if index == 0 { input } else { out };
            ResnetWeights::read(reader, &format!("{name}.resnets.{index}"), [input, out])
        };
        let resnets = (0..resnets).map(resnet).collect::<Result<_>>()?;
        let resample = resample
            .map(|module| reader.conv2d(&format!("{name}.{module}"), [out, out, 3, 3]))
            .transpose()?;
        Ok(Self { resnets, resample })
    }
}

impl MidBlockWeights {
    fn read(reader: &mut impl TensorSource, name: &str, config: &VaeConfig) -> Result<Self> {
        let (_, channels) = ends(&config.block_out_channels);
        let attention = match config.mid_block_add_attention {
            true => {
                Some(VaeAttentionWeights::read(reader, &format!("{name}.attentions.0"), channels)?)
            }
            false => None,
        };
        Ok(Self {
            resnet0: ResnetWeights::read(reader, &format!("{name}.resnets.0"), [channels; 2])?,
            attention,
            resnet1: ResnetWeights::read(reader, &format!("{name}.resnets.1"), [channels; 2])?,
        })
    }
}

impl VaeAttentionWeights {
    fn read(reader: &mut impl TensorSource, name: &str, channels: usize) -> Result<Self> {
        let part = |module: &str| Part::whole(format!("{name}.{module}"), channels);
        Ok(Self {
            norm: GroupNormWeights::read(reader, &format!("{name}.group_norm"), channels)?,
            qkv: reader.linear(&["to_q", "to_k", "to_v"].map(part), channels)?,
            out: reader.linear(&[part("to_out.0")], channels)?,
        })
    }
}

impl ResnetWeights {
    fn read(reader: &mut impl TensorSource, name: &str, [input, out]: [usize; 2]) -> Result<Self> {
        let shortcut = (input != out)
            .then(|| reader.conv2d(&format!("{name}.conv_shortcut"), [out, input, 1, 1]))
            .transpose()?;
        Ok(Self {
            norm1: GroupNormWeights::read(reader, &format!("{name}.norm1"), input)?,
            conv1: reader.conv2d(&format!("{name}.conv1"), [out, input, 3, 3])?,
            norm2: GroupNormWeights::read(reader, &format!("{name}.norm2"), out)?,
            conv2: reader.conv2d(&format!("{name}.conv2"), [out, out, 3, 3])?,
            shortcut,
        })
    }
}

impl GroupNormWeights {
    fn read(reader: &mut impl TensorSource, name: &str, channels: usize) -> Result<Self> {
        Ok(Self {
            weight: reader.vector(&format!("{name}.weight"), channels)?,
            bias: reader.vector(&format!("{name}.bias"), channels)?,
        })
    }
}
