//! Launcher of `gated_gelu`: blocks of 2,048 columns of a row.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::row_grid;

const OP: &str = "gated_gelu";

kernel_params!(Params, 40, {
    0 out: u64,
    8 hidden: u64,
    16 rows: i32,
    20 columns: i32,
    24 out_stride: i32,
    28 hidden_stride: i32,
    32 round_like_diffusers: i32,
    36 reserved: i32,
});

pub(crate) fn gated_gelu(
    cuda: &Arc<Cuda>,
    out: &MatrixMut<'_, Act>,
    hidden: Matrix<'_, Act>,
) -> Result<()> {
    let [rows, columns] = out.shape();
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let params = Params {
        out: out.as_ref().cuda_address(),
        hidden: hidden.cuda_address(),
        rows: int(OP, "S", rows)?,
        columns: int(OP, "F", columns)?,
        out_stride: int(OP, "stride", out.stride())?,
        hidden_stride: int(OP, "stride", hidden.stride())?,
        round_like_diffusers: cuda.round_like_diffusers(),
        reserved: 0,
    };
    let work = Work::Bytes(6 * rows * columns);
    cuda.launch(OP, row_grid(OP, "S", blocks(OP, columns, 2048)?, rows, 256)?.doing(work), &params)
}
