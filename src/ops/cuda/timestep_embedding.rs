//! Launcher of `timestep_embedding`: blocks of 128 frequencies of a row.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::row_grid;

const OP: &str = "timestep_embedding";

kernel_params!(Params, 32, {
    0 out: u64,
    8 values: u64,
    16 rows: i32,
    20 half: i32,
    24 out_stride: i32,
    28 reserved: i32,
});

pub(crate) fn timestep_embedding(
    cuda: &Arc<Cuda>,
    out: &MatrixMut<'_, Act>,
    values: &Tensor<f32, 1>,
) -> Result<()> {
    let [rows, columns] = out.shape();
    let half = columns / 2;
    if rows == 0 || half == 0 {
        return Ok(());
    }
    let params = Params {
        out: out.as_ref().cuda_address(),
        values: values.cuda_address(),
        rows: int(OP, "N", rows)?,
        half: int(OP, "F", half)?,
        out_stride: int(OP, "stride", out.stride())?,
        reserved: 0,
    };
    cuda.launch(OP, row_grid(OP, "N", blocks(OP, half, 128)?, rows, 128)?, &params)
}
