//! Launcher of `quantize`: a block a row.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Output;
use crate::device::QuantizedMut;
use crate::device::Scaling;
use crate::device::Tensor;
use crate::device::Work;
use crate::device::operand::no_fp8;
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
    24 units: u64,
    32 rows: i32,
    36 columns: i32,
    40 values_stride: i32,
    44 x_stride: i32,
});

/// Lets `write` make activations: the output itself, or where it is to be quantised its staging, which
/// then is.
///
/// # Errors
/// [`crate::Error::Device`] for an output without staging.
pub(crate) fn through_staging(
    cuda: &Arc<Cuda>,
    op: &'static str,
    out: &Output<'_>,
    write: impl FnOnce(&MatrixMut<'_, Act>) -> Result<()>,
) -> Result<()> {
    match out {
        Output::Act(out) => write(out),
        Output::Fp8 { out, units, staging: Some(staging) } => {
            write(staging)?;
            quantize(cuda, out, staging.as_ref(), *units)
        }
        Output::Fp8 { staging: None, .. } => Err(no_fp8(op)),
    }
}

pub(crate) fn quantize(
    cuda: &Arc<Cuda>,
    out: &QuantizedMut<'_>,
    x: Matrix<'_, Act>,
    units: Option<&Tensor<f32, 1>>,
) -> Result<()> {
    let [rows, columns] = x.shape();
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    let params = Params {
        values: out.values.as_ref().cuda_address(),
        scales: out.scales.as_ref().cuda_address(),
        x: x.cuda_address(),
        units: units.map_or(0, |units| units.cuda_address()),
        rows: int(OP, "M", rows)?,
        columns: int(OP, "K", columns)?,
        values_stride: int(OP, "stride", out.values.stride())?,
        x_stride: int(OP, "stride", x.stride())?,
    };
    let entry = match out.scaling {
        Scaling::Row => "quantize_row",
        Scaling::Units => "quantize_units",
    };
    let work = Work::Bytes(3 * rows * columns);
    cuda.launch(entry, linear_grid(blocks(OP, rows, 1)?, 256).doing(work), &params)
}
