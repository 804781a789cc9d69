//! Launchers of `pack` and `unpack`: a thread an element.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;

kernel_params!(PackParams, 32, {
    0 out: u64,
    8 latents: u64,
    16 channels: i32,
    20 height: i32,
    24 width: i32,
    28 reserved: i32,
});

kernel_params!(UnpackParams, 40, {
    0 out: u64,
    8 packed: u64,
    16 channels: i32,
    20 height: i32,
    24 width: i32,
    28 scaling: f32,
    32 shift: f32,
    36 round_like_diffusers: i32,
});

pub(crate) fn pack(cuda: &Arc<Cuda>, out: &Tensor<Act, 2>, latents: &Tensor<f32, 3>) -> Result<()> {
    const OP: &str = "pack";
    let [channels, height, width] = latents.shape();
    let count = channels * height * width;
    if count == 0 {
        return Ok(());
    }
    // Places in the latents are 32-bit numbers.
    int(OP, "latents", count)?;
    let params = PackParams {
        out: out.cuda_address(),
        latents: latents.cuda_address(),
        channels: int(OP, "C", channels)?,
        height: int(OP, "h", height)?,
        width: int(OP, "w", width)?,
        reserved: 0,
    };
    let work = Work::Bytes(6 * count);
    cuda.launch(OP, linear_grid(blocks(OP, count, 256)?, 256).doing(work), &params)
}

pub(crate) fn unpack(
    cuda: &Arc<Cuda>,
    out: &Tensor<Act, 3>,
    packed: &Tensor<Act, 2>,
    scaling: f32,
    shift: f32,
) -> Result<()> {
    const OP: &str = "unpack";
    let [height, width, channels] = out.shape();
    let count = channels * height * width;
    if count == 0 {
        return Ok(());
    }
    // Places in the latents are 32-bit numbers.
    int(OP, "out", count)?;
    let params = UnpackParams {
        out: out.cuda_address(),
        packed: packed.cuda_address(),
        channels: int(OP, "C", channels)?,
        height: int(OP, "h", height)?,
        width: int(OP, "w", width)?,
        scaling,
        shift,
        round_like_diffusers: cuda.round_like_diffusers(),
    };
    let work = Work::Bytes(4 * count);
    cuda.launch(OP, linear_grid(blocks(OP, count, 256)?, 256).doing(work), &params)
}
