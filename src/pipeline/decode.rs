//! Packed latents to pixels, at once or in tiles.

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::model::vae;
use crate::model::weights::vae::VaeWeights;
use crate::ops::pack::unpack;
use crate::ops::to_rgb8::PixelRounding;
use crate::ops::to_rgb8::to_rgb8;
use crate::pipeline::RgbImage;
use crate::pipeline::tiling::Tiling;
use crate::pipeline::tiling::decode_tiled;

/// Packed latents to pixels, by way of latents of shape `size`; `steps` is for the message.
///
/// # Errors
/// [`Error::Numeric`] when the picture holds NaN or infinity.
pub(crate) fn decode(
    vae: &VaeWeights,
    latents: &Tensor<Act, 2>,
    size: [usize; 3],
    tiling: Option<Tiling>,
    rounding: PixelRounding,
    steps: usize,
) -> Result<RgbImage> {
    let mut z = Tensor::empty(&latents.device(), size)?;
    unpack(&mut z, latents, vae.config.scaling_factor, vae.config.shift_factor)?;
    let image = match tiling {
        Some(tiling) => decode_tiled(vae, &z, tiling)?,
        None => vae::decode(vae, &z)?,
    };
    // Tiles were put together in host memory; what is there stays there.
    let device = &image.device();
    let mut pixels = Tensor::empty(device, image.shape())?;
    let mut not_finite = Tensor::from_host([1], vec![0]).to_device(device)?;
    to_rgb8(&mut pixels, &mut not_finite, &image, rounding)?;
    if not_finite.to_host()?.host() != [0] {
        return Err(Error::Numeric { what: "the decoded picture", step: steps });
    }
    Ok(RgbImage::from_tensor(&pixels.to_host()?))
}
