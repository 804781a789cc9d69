//! Launcher of `rmsnorm`: a block a row.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;

const OP: &str = "rmsnorm";

kernel_params!(Params, 48, {
    0 out: u64,
    8 x: u64,
    16 weight: u64,
    24 rows: i32,
    28 columns: i32,
    32 out_stride: i32,
    36 x_stride: i32,
    40 eps: f32,
    44 round_like_diffusers: i32,
});

pub(crate) fn rmsnorm(
    cuda: &Arc<Cuda>,
    out: &MatrixMut<'_, Act>,
    x: Matrix<'_, Act>,
    weight: &Tensor<f32, 1>,
    eps: f32,
) -> Result<()> {
    let [rows, columns] = x.shape();
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let params = Params {
        out: out.as_ref().cuda_address(),
        x: x.cuda_address(),
        weight: weight.cuda_address(),
        rows: int(OP, "S", rows)?,
        columns: int(OP, "D", columns)?,
        out_stride: int(OP, "stride", out.stride())?,
        x_stride: int(OP, "stride", x.stride())?,
        eps,
        round_like_diffusers: cuda.round_like_diffusers(),
    };
    let work = Work::Bytes(4 * rows * columns);
    cuda.launch(OP, linear_grid(blocks(OP, rows, 1)?, 512).doing(work), &params)
}
