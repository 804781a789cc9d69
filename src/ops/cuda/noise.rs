//! Launcher of `noise`: a CUDA generator's numbers, as a launch of `PyTorch` deals them out.

use std::sync::Arc;

use crate::device::Cuda;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;
use crate::ops::noise::Grid;
use crate::ops::noise::NoiseDtype;

const OP: &str = "noise";

kernel_params!(Params, 32, {
    0 out: u64,
    8 count: i32,
    12 draw_threads: i32,
    16 seed_low: u32,
    20 seed_high: u32,
    24 round_to_bf16: i32,
    28 reserved: i32,
});

pub(crate) fn noise(
    cuda: &Arc<Cuda>,
    out: &Tensor<f32, 4>,
    grid: Grid,
    dtype: NoiseDtype,
    seed: u64,
) -> Result<()> {
    let count = out.shape().iter().product();
    if count == 0 {
        return Ok(());
    }
    // PyTorch's own grid, which decides which thread draws which number; launched on the same,
    // each thread has one pass.
    let drawing = blocks(OP, count, 256)?.min(grid.blocks());
    let params = Params {
        out: out.cuda_address(),
        count: int(OP, "out", count)?,
        draw_threads: int(OP, "draw grid", drawing as usize * 256)?,
        seed_low: (seed & 0xffff_ffff) as u32,
        seed_high: (seed >> 32) as u32,
        round_to_bf16: i32::from(dtype == NoiseDtype::Bf16),
        reserved: 0,
    };
    let work = Work::Bytes(4 * count);
    cuda.launch(OP, linear_grid(drawing, 256).doing(work), &params)
}
