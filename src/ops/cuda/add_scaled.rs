//! Launcher of `add_scaled`.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::expect_contiguous;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;

const OP: &str = "add_scaled";

/// Elements of a block.
const EACH: usize = 4096;

kernel_params!(Params, 32, {
    0 out: u64,
    8 a: u64,
    16 b: u64,
    24 count: i32,
    28 scale: f32,
});

pub(crate) fn add_scaled(
    cuda: &Arc<Cuda>,
    out: &MatrixMut<'_, Act>,
    a: Matrix<'_, Act>,
    b: Matrix<'_, Act>,
    scale: f32,
) -> Result<()> {
    let count = out.shape().iter().product();
    if count == 0 {
        return Ok(());
    }
    expect_contiguous(OP, "out", out.as_ref())?;
    expect_contiguous(OP, "a", a)?;
    expect_contiguous(OP, "b", b)?;
    let params = Params {
        out: out.as_ref().cuda_address(),
        a: a.cuda_address(),
        b: b.cuda_address(),
        count: int(OP, "out", count)?,
        scale,
    };
    let work = Work::Bytes(6 * count);
    cuda.launch(OP, linear_grid(blocks(OP, count, EACH)?, 256).doing(work), &params)
}
