//! Launcher of `quantize`: a block a row.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Matrix;
use crate::device::QuantizedMut;
use crate::device::Scaling;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;

const OP: &str = "quantize";

kernel_params!(Params, 48, {
    0 values: u64,
    8 scales: u64,
    16 x: u64,
    24 rows: i32,
    28 columns: i32,
    32 values_stride: i32,
    36 scales_stride: i32,
    40 x_stride: i32,
    44 reserved: i32,
});

pub(crate) fn quantize(cuda: &Arc<Cuda>, out: &QuantizedMut<'_>, x: Matrix<'_, Act>) -> Result<()> {
    let [rows, columns] = x.shape();
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let params = Params {
        values: out.values.as_ref().cuda_address(),
        scales: out.scales.as_ref().cuda_address(),
        x: x.cuda_address(),
        rows: int(OP, "M", rows)?,
        columns: int(OP, "K", columns)?,
        values_stride: int(OP, "stride", out.values.stride())?,
        scales_stride: int(OP, "stride", out.scales.stride())?,
        x_stride: int(OP, "stride", x.stride())?,
        reserved: 0,
    };
    let entry = match out.scaling {
        Scaling::Row => "quantize_row",
        Scaling::Block => "quantize_block",
    };
    let work = Work::Bytes(3 * rows * columns);
    cuda.launch(entry, linear_grid(blocks(OP, rows, 1)?, 256).doing(work), &params)
}
