//! The steps: velocity, Euler step, latents checked; the observer may stop after each.

use std::ops::ControlFlow;

use crate::device::Act;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::model::flux;
use crate::model::flux::Prepared;
use crate::model::flux::Workspace;
use crate::model::weights::flux::FluxWeights;
use crate::ops::euler_step::LatentRounding;
use crate::ops::euler_step::euler_step;
use crate::pipeline::Event;

/// Runs all steps from `latents [I, channels]`, in place; `sigmas` is `[steps + 1]`.
///
/// # Errors
/// [`Error::Numeric`] when the latents become NaN or infinite, [`Error::Cancelled`] when the
/// observer says stop.
pub(crate) fn denoise(
    latents: &mut Tensor<Act, 2>,
    weights: &FluxWeights,
    prepared: &Prepared,
    sigmas: &Tensor<f32, 1>,
    rounding: LatentRounding,
    observer: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<()> {
    let [txt_len, _] = prepared.txt.shape();
    let [img_len, _] = latents.shape();
    let steps = sigmas.shape()[0] - 1;
    let device = &latents.device();
    let mut workspace = Workspace::new(device, &weights.config, txt_len + img_len)?;
    let mut velocity = Tensor::empty(device, [img_len, weights.config.out_channels()])?;
    let mut step = Tensor::from_host([1], vec![0]).to_device(device)?;
    for done in 1..=steps {
        flux::forward(&mut velocity, &mut workspace, latents.matrix(), weights, prepared, &step)?;
        euler_step(latents, &velocity, sigmas, &mut step, rounding)?;
        if !latents.host().iter().all(|value| value.is_finite()) {
            return Err(Error::Numeric { what: "latents", step: done });
        }
        if observer(Event::Step { done, steps }).is_break() {
            return Err(Error::Cancelled);
        }
    }
    Ok(())
}
