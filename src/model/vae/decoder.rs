//! Latents to an image. Spec flux 7.1.

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::vae::blocks::conv;
use crate::model::vae::blocks::mid_block;
use crate::model::vae::blocks::norm;
use crate::model::vae::blocks::resnet;
use crate::model::weights::vae::LevelWeights;
use crate::model::weights::vae::VaeWeights;
use crate::ops::conv2d::Stride;
use crate::ops::gemm::Activation;
use crate::ops::upsample::upsample;

/// Image `[8 h, 8 w, 3]`, nominally in [-1, 1], of `z [h, w, latent_channels]`, the latents after
/// `latents / scaling_factor + shift_factor`.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
pub fn decode(weights: &VaeWeights, z: &Tensor<Act, 3>) -> Result<Tensor<Act, 3>> {
    let groups = weights.config.norm_num_groups;
    let decoder = &weights.decoder;
    let mut x = conv(z, None, &decoder.conv_in, Stride::One)?;
    x = mid_block(&x, &decoder.mid, groups)?;
    for level in &decoder.levels {
        x = up_level(x, level, groups)?;
    }
    x = norm(&x, &decoder.norm_out, groups, Activation::Silu)?;
    conv(&x, None, &decoder.conv_out, Stride::One)
}

/// The resnets of one level, then nearest upsampling and its convolution.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
pub fn up_level(
    mut x: Tensor<Act, 3>,
    level: &LevelWeights,
    groups: usize,
) -> Result<Tensor<Act, 3>> {
    for weights in &level.resnets {
        x = resnet(&x, weights, groups)?;
    }
    if let Some(resample) = &level.resample {
        let [height, width, channels] = x.shape();
        let mut large = Tensor::empty(&x.device(), [2 * height, 2 * width, channels])?;
        upsample(&mut large, &x)?;
        x = conv(&large, None, resample, Stride::One)?;
    }
    Ok(x)
}
