//! One step of the flow: `latents += (sigma[step + 1] - sigma[step]) * velocity`, then `step += 1`.
//!
//! latents `[L, C]`, velocity `[L, C]`, sigmas `[steps + 1]`, step `[1]`, a counter on the device:
//! a recorded step can run again and again, and nobody on the host needs to know which it is.
//! Source: `FlowMatchEulerDiscreteScheduler.step` of diffusers 0.42. Oracle: `cpu/euler_step.rs`.

use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::error::Error;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "euler_step";

/// Where a step rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatentRounding {
    /// f32 latents: product and sum are f32 operations, not fused.
    F32,
    /// As diffusers with a bf16 model: sigma difference, velocity, product and sum are each rounded
    /// to bf16, so the latents hold bf16 values between steps.
    DiffusersBf16,
}

/// Advances `latents [L, C]` by `velocity [L, C]` over the step that `step [1]` counts, from
/// `sigmas [steps + 1]`, and increments `step`.
///
/// # Errors
/// [`Error::Shape`] if the shapes do not fit together, or, where the host can see it, `step` has
/// passed the last step.
pub fn euler_step(
    latents: &mut Tensor<Act, 2>,
    velocity: &Tensor<Act, 2>,
    sigmas: &Tensor<f32, 1>,
    step: &mut Tensor<u32, 1>,
    rounding: LatentRounding,
) -> Result<()> {
    expect_shape(OP, "velocity", velocity.shape(), latents.shape())?;
    expect_shape(OP, "step", step.shape(), [1])?;
    if let Device::Cuda(cuda) = latents.device() {
        return cuda::euler_step::euler_step(&cuda, latents, velocity, sigmas, step, rounding);
    }
    let at = step.host()[0] as usize;
    let Some(&[sigma, next]) = sigmas.host().get(at..).and_then(|rest| rest.first_chunk()) else {
        return Err(Error::Shape {
            op: OP,
            tensor: "sigmas",
            expected: format!("[{at} + 2] or longer at step {at}"),
            actual: format!("{:?}", sigmas.shape()),
        });
    };
    cpu::euler_step::euler_step(latents.host_mut(), velocity.host(), next - sigma, rounding);
    step.host_mut()[0] += 1;
    Ok(())
}
