//! The VAE's weights.

use crate::device::Tensor;
use crate::error::Result;
use crate::model::config::VaeConfig;
use crate::model::weights::dtype::WeightDtype;
use crate::model::weights::reader::Part;
use crate::model::weights::reader::Reader;
use crate::ops::conv2d::Conv2d;
use crate::ops::gemm::Linear;

/// An affine GroupNorm.
#[derive(Debug)]
pub struct GroupNormWeights {
    /// `[C]`.
    pub weight: Tensor<f32, 1>,
    /// `[C]`.
    pub bias: Tensor<f32, 1>,
}

/// `x + conv2(SiLU(norm2(conv1(SiLU(norm1(x))))))`.
#[derive(Debug)]
pub struct ResnetWeights {
    /// Over the input channels.
    pub norm1: GroupNormWeights,
    /// 3 x 3.
    pub conv1: Conv2d,
    /// Over the output channels.
    pub norm2: GroupNormWeights,
    /// 3 x 3.
    pub conv2: Conv2d,
    /// 1 x 1, where the number of channels changes.
    pub shortcut: Option<Conv2d>,
}

/// The attention of the middle block: one head as wide as the channels.
#[derive(Debug)]
pub struct VaeAttentionWeights {
    /// Before q, k and v.
    pub norm: GroupNormWeights,
    /// `[3 C, C]`: q, k, v rows.
    pub qkv: Linear,
    /// `[C, C]`.
    pub out: Linear,
}

/// Resnet, attention, resnet.
#[derive(Debug)]
pub struct MidBlockWeights {
    /// Before the attention.
    pub resnet0: ResnetWeights,
    /// Absent when the config says `mid_block_add_attention: false`.
    pub attention: Option<VaeAttentionWeights>,
    /// After the attention.
    pub resnet1: ResnetWeights,
}

/// One resolution level: resnets, then a change of size except at the last level.
#[derive(Debug)]
pub struct LevelWeights {
    /// Resnets in order.
    pub resnets: Vec<ResnetWeights>,
    /// The 3 x 3 convolution after nearest upsampling (decoder) or with stride 2 (encoder).
    pub resample: Option<Conv2d>,
}

/// Encoder or decoder.
#[derive(Debug)]
pub struct CoderWeights {
    /// 3 x 3.
    pub conv_in: Conv2d,
    /// In the decoder the first thing after `conv_in`, in the encoder after all levels.
    pub mid: MidBlockWeights,
    /// In the order of the forward pass.
    pub levels: Vec<LevelWeights>,
    /// Before `conv_out`.
    pub norm_out: GroupNormWeights,
    /// 3 x 3.
    pub conv_out: Conv2d,
}

/// The whole VAE.
#[derive(Debug)]
pub struct VaeWeights {
    /// Sizes.
    pub config: VaeConfig,
    /// Image to moments.
    pub encoder: CoderWeights,
    /// Latents to image.
    pub decoder: CoderWeights,
}

impl VaeWeights {
    /// Reads encoder and decoder; the matrices of the attention are kept as `dtype`.
    ///
    /// # Errors
    /// [`crate::Error::Weight`] for a tensor that is missing, extra or misshapen.
    pub fn load(reader: &mut Reader<'_>, config: &VaeConfig, dtype: WeightDtype) -> Result<Self> {
        reader.checked(|reader| {
            Ok(Self {
                config: config.clone(),
                encoder: read_encoder(reader, config, dtype)?,
                decoder: read_decoder(reader, config, dtype)?,
            })
        })
    }
}

/// RGB.
const IMAGE_CHANNELS: usize = 3;

fn read_encoder(
    reader: &mut Reader<'_>,
    config: &VaeConfig,
    dtype: WeightDtype,
) -> Result<CoderWeights> {
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
        mid: MidBlockWeights::read(reader, "encoder.mid_block", config, dtype)?,
        levels,
        norm_out: GroupNormWeights::read(reader, "encoder.conv_norm_out", last)?,
        // Mean and log-variance.
        conv_out: reader.conv2d("encoder.conv_out", [2 * config.latent_channels, last, 3, 3])?,
    })
}

fn read_decoder(
    reader: &mut Reader<'_>,
    config: &VaeConfig,
    dtype: WeightDtype,
) -> Result<CoderWeights> {
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
        mid: MidBlockWeights::read(reader, "decoder.mid_block", config, dtype)?,
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
        reader: &mut Reader<'_>,
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
    fn read(
        reader: &mut Reader<'_>,
        name: &str,
        config: &VaeConfig,
        dtype: WeightDtype,
    ) -> Result<Self> {
        let (_, channels) = ends(&config.block_out_channels);
        let attention = match config.mid_block_add_attention {
            true => Some(VaeAttentionWeights::read(
                reader,
                &format!("{name}.attentions.0"),
                channels,
                dtype,
            )?),
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
    fn read(
        reader: &mut Reader<'_>,
        name: &str,
        channels: usize,
        dtype: WeightDtype,
    ) -> Result<Self> {
        let part = |module: &str| Part::whole(format!("{name}.{module}"), channels);
        Ok(Self {
            norm: GroupNormWeights::read(reader, &format!("{name}.group_norm"), channels)?,
            qkv: reader.linear(&["to_q", "to_k", "to_v"].map(part), channels, dtype)?,
            out: reader.linear(&[part("to_out.0")], channels, dtype)?,
        })
    }
}

impl ResnetWeights {
    fn read(reader: &mut Reader<'_>, name: &str, [input, out]: [usize; 2]) -> Result<Self> {
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
    fn read(reader: &mut Reader<'_>, name: &str, channels: usize) -> Result<Self> {
        Ok(Self {
            weight: reader.vector(&format!("{name}.weight"), channels)?,
            bias: reader.vector(&format!("{name}.bias"), channels)?,
        })
    }
}
