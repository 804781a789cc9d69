//! What a picture will be, while it is being made: the steps that are left taken at once.

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Result;
use crate::model::weights::vae::VaeWeights;
use crate::ops::to_rgb8::PixelRounding;
use crate::pipeline::RgbImage;
use crate::pipeline::decode::decode;
use crate::pipeline::session::Session;
use crate::pipeline::tiling::Tiling;

/// How previews are drawn.
#[derive(Debug)]
pub(crate) struct Preview<'e> {
    /// After every how many steps.
    pub(crate) every: usize,
    pub(crate) vae: &'e VaeWeights,
    /// Of the latents, see [`decode`].
    pub(crate) size: [usize; 3],
    pub(crate) tiling: Option<Tiling>,
    pub(crate) rounding: PixelRounding,
    /// `[steps + 1]`: the noise level before each step, and 0 after the last.
    pub(crate) sigmas: &'e [f32],
}

impl Preview<'_> {
    /// Whether one is drawn after so many of all steps; the last is the picture itself.
    pub(crate) fn is_due(&self, done: usize, steps: usize) -> bool {
        done < steps && done.is_multiple_of(self.every)
    }

    /// Draws one from the session's latents after so many steps: what is left of the noise goes the way of
    /// the last velocity. Nothing of the session is changed.
    ///
    /// # Errors
    /// As [`decode`].
    pub(crate) fn draw(&self, session: &Session, done: usize) -> Result<RgbImage> {
        let [latents, velocity] = [session.latents.to_host()?, session.velocity.to_host()?];
        let sigma = self.sigmas[done];
        let pairs = latents.host().iter().zip(velocity.host());
        let ahead = pairs.map(|(&latent, &velocity)| latent - sigma * velocity).collect();
        let ahead: Tensor<Act, 2> =
            Tensor::from_host(latents.shape(), ahead).to_device(&session.latents.device())?;
        decode(self.vae, &ahead, self.size, self.tiling, self.rounding, done)
    }
}
