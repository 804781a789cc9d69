//! What encoder and decoder are made of: norm + SiLU, resnet, mid block.

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::weights::vae::GroupNormWeights;
use crate::model::weights::vae::MidBlockWeights;
use crate::model::weights::vae::ResnetWeights;
use crate::model::weights::vae::VaeAttentionWeights;
use crate::ops::attention::Mask;
use crate::ops::attention::attention;
use crate::ops::conv2d::Conv2d;
use crate::ops::conv2d::Stride;
use crate::ops::conv2d::conv2d;
use crate::ops::gemm::Activation;
use crate::ops::gemm::gemm;
use crate::ops::gemm::whole;
use crate::ops::groupnorm_silu::GroupNorm;
use crate::ops::groupnorm_silu::groupnorm_silu;

/// GroupNorm, then SiLU where asked, `[H, W, C]`.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
pub fn norm(
    x: &Tensor<Act, 3>,
    weights: &GroupNormWeights,
    groups: usize,
    activation: Activation,
) -> Result<Tensor<Act, 3>> {
    let mut out = Tensor::empty(&x.device(), x.shape())?;
    let norm = GroupNorm { weight: &weights.weight, bias: &weights.bias, groups };
    groupnorm_silu(&mut out, x, norm, activation)?;
    Ok(out)
}

/// A convolution into a new tensor, `[H', W', C_out]`.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
pub fn conv(
    x: &Tensor<Act, 3>,
    residual: Option<&Tensor<Act, 3>>,
    weights: &Conv2d,
    stride: Stride,
) -> Result<Tensor<Act, 3>> {
    let [height, width, _] = x.shape();
    let [channels, _] = weights.weight.shape();
    let shape = [stride.output_size(height), stride.output_size(width), channels];
    let mut out = Tensor::empty(&x.device(), shape)?;
    conv2d(&mut out, x, residual, weights, stride)?;
    Ok(out)
}

/// `shortcut(x) + conv2(SiLU(norm2(conv1(SiLU(norm1(x))))))`.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
pub fn resnet(
    x: &Tensor<Act, 3>,
    weights: &ResnetWeights,
    groups: usize,
) -> Result<Tensor<Act, 3>> {
    // One variable, so that each tensor's memory is free as soon as the next one is computed: at the
    // finest level of a 1024 x 1024 picture the decoder then takes 1.3 GB at a time instead of 2.1.
    let mut inner = norm(x, &weights.norm1, groups, Activation::Silu)?;
    inner = conv(&inner, None, &weights.conv1, Stride::One)?;
    inner = norm(&inner, &weights.norm2, groups, Activation::Silu)?;
    let shortcut = match &weights.shortcut {
        Some(shortcut) => Some(conv(x, None, shortcut, Stride::One)?),
        None => None,
    };
    conv(&inner, Some(shortcut.as_ref().unwrap_or(x)), &weights.conv2, Stride::One)
}

/// Resnet, attention, resnet.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
pub fn mid_block(
    x: &Tensor<Act, 3>,
    weights: &MidBlockWeights,
    groups: usize,
) -> Result<Tensor<Act, 3>> {
    let mut x = resnet(x, &weights.resnet0, groups)?;
    if let Some(weights) = &weights.attention {
        x = mid_attention(x, weights, groups)?;
    }
    resnet(&x, &weights.resnet1, groups)
}

/// Attention over all pixels with one head as wide as the channels, added to its input.
///
/// # Errors
/// [`crate::Error::Shape`] when the weights do not fit.
#[expect(clippy::cast_possible_truncation, reason = "the scale is an f32")]
pub fn mid_attention(
    x: Tensor<Act, 3>,
    weights: &VaeAttentionWeights,
    groups: usize,
) -> Result<Tensor<Act, 3>> {
    let [height, width, channels] = x.shape();
    let pixels = height * width;
    let normed = norm(&x, &weights.norm, groups, Activation::None)?;
    let mut qkv = Tensor::empty(&x.device(), [pixels, 3 * channels])?;
    let segments = whole(&weights.qkv, pixels);
    gemm(qkv.matrix_mut(), normed.matrix(), None, &segments, Activation::None)?;
    let qkv = qkv.reshape([pixels, 3, 1, channels]);
    let mut heads_out = Tensor::empty(&x.device(), [pixels, channels])?;
    let scale = (1.0 / (channels as f64).sqrt()) as f32;
    attention(heads_out.matrix_mut(), &qkv, Mask::None, scale)?;
    let mut out = Tensor::empty(&x.device(), [height, width, channels])?;
    let segments = whole(&weights.out, pixels);
    gemm(out.matrix_mut(), heads_out.matrix(), Some(x.matrix()), &segments, Activation::None)?;
    Ok(out)
}
