//! An image to the moments of its latents. Spec flux 7.4.

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

/// Moments `[H / 8, W / 8, 2 latent_channels]` of `image [H, W, 3]` in [-1, 1]: the mean, then the
/// logarithm of the variance, not yet clamped.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
pub fn encode(weights: &VaeWeights, image: &Tensor<Act, 3>) -> Result<Tensor<Act, 3>> {
    let groups = weights.config.norm_num_groups;
    let encoder = &weights.encoder;
    let mut x = conv(image, None, &encoder.conv_in, Stride::One)?;
    for level in &encoder.levels {
        x = down_level(x, level, groups)?;
    }
    x = mid_block(&x, &encoder.mid, groups)?;
    x = norm(&x, &encoder.norm_out, groups, Activation::Silu)?;
    conv(&x, None, &encoder.conv_out, Stride::One)
}

/// The resnets of one level, then the convolution with stride 2.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
pub fn down_level(
    mut x: Tensor<Act, 3>,
    level: &LevelWeights,
    groups: usize,
) -> Result<Tensor<Act, 3>> {
    for weights in &level.resnets {
        x = resnet(&x, weights, groups)?;
    }
    match &level.resample {
        Some(resample) => conv(&x, None, resample, Stride::Two),
        None => Ok(x),
    }
}
