//! How near a picture is to the reference's.

use crate::device::Tensor;
use crate::pipeline::RgbImage;
use crate::report::latents::latents_error;
use crate::report::perceptual::ssimulacra2;
use crate::report::results::Quality;
use crate::report::ssim::ssim;

/// A picture of the reference.
#[derive(Debug)]
pub(crate) struct Exact {
    pub(crate) image: RgbImage,
    /// The final ones, `[tokens, 64]`.
    pub(crate) latents: Tensor<f32, 2>,
}

/// Every measure; what cannot be computed says why.
pub(crate) fn quality(image: &RgbImage, latents: &Tensor<f32, 2>, exact: &Exact) -> Quality {
    let mut why = Vec::new();
    let size = |image: &RgbImage| [image.width, image.height];
    if size(image) != size(&exact.image) {
        why.push("pictures of two sizes".to_owned());
        return Quality { psnr: None, ssim: None, ssimulacra2: None, latents_error: None, why };
    }
    let ssim = ssim(image, &exact.image);
    if ssim.is_none() {
        why.push("ssim: a window of 11 x 11 pixels does not fit in".to_owned());
    }
    let ssimulacra2 = ssimulacra2(image, &exact.image);
    let ssimulacra2 = ssimulacra2.map_err(|error| why.push(format!("ssimulacra2: {error}"))).ok();
    let latents_error = latents_error(latents, &exact.latents);
    if latents_error.is_none() {
        why.push("latents: those of the reference are zeros".to_owned());
    }
    Quality { psnr: Some(image.psnr(&exact.image)), ssim, ssimulacra2, latents_error, why }
}
