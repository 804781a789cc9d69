//! The VAE's weights.

mod read;

use crate::device::Tensor;
use crate::error::Result;
use crate::model::config::VaeConfig;
use crate::model::weights::reader::Reader;
use crate::model::weights::tensor_source::Network;
use crate::model::weights::tensor_source::Placement;
use crate::model::weights::tensor_source::TensorSource;
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
    /// Reads encoder and decoder; their tensors go where `placement` says.
    ///
    /// # Errors
    /// [`crate::Error::Weight`] for a tensor that is missing, extra or misshapen.
    pub fn load(
        reader: &mut Reader<'_>,
        config: &VaeConfig,
        placement: impl Into<Placement>,
    ) -> Result<Self> {
        reader.checked(placement.into(), |reader| Self::read(reader, config))
    }
}

impl Network for VaeWeights {
    type Config = VaeConfig;

    fn read(source: &mut impl TensorSource, config: &VaeConfig) -> Result<Self> {
        Ok(Self {
            config: config.clone(),
            encoder: read::encoder(source, config)?,
            decoder: read::decoder(source, config)?,
        })
    }
}
