//! Launcher of `euler_step`: the kernel counts the step as well.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::elementwise_grid;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::euler_step::LatentRounding;
use crate::ops::expect;

const OP: &str = "euler_step";

kernel_params!(Params, 48, {
    0 latents: u64,
    8 velocity: u64,
    16 sigmas: u64,
    24 step: u64,
    32 count: i32,
    36 steps: i32,
    40 round_like_diffusers: i32,
    44 reserved: i32,
});

pub(crate) fn euler_step(
    cuda: &Arc<Cuda>,
    latents: &Tensor<Act, 2>,
    velocity: &Tensor<Act, 2>,
    sigmas: &Tensor<f32, 1>,
    step: &Tensor<u32, 1>,
    rounding: LatentRounding,
) -> Result<()> {
    let count = latents.shape().iter().product();
    let [levels] = sigmas.shape();
    // The host cannot see which step it is, only that there is none at all.
    expect(OP, "sigmas", levels >= 2, || ("[2] or longer".into(), format!("[{levels}]")))?;
    let params = Params {
        latents: latents.cuda_address(),
        velocity: velocity.cuda_address(),
        sigmas: sigmas.cuda_address(),
        step: step.cuda_address(),
        count: int(OP, "latents", count)?,
        steps: int(OP, "sigmas", levels - 1)?,
        round_like_diffusers: i32::from(rounding == LatentRounding::DiffusersBf16),
        reserved: 0,
    };
    // A step of no latents still counts.
    let work = Work::Bytes(6 * count);
    cuda.launch(OP, elementwise_grid(OP, count.max(1))?.doing(work), &params)
}
