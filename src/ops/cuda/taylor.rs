//! Launchers of `taylor_update` and `taylor_forecast`: the former sets the clock as well.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::elementwise_grid;
use crate::ops::cuda::expect_contiguous;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::expect;
use crate::ops::taylor::FORECAST;
use crate::ops::taylor::MAX_ORDER;
use crate::ops::taylor::TaylorSeries;
use crate::ops::taylor::UPDATE;

kernel_params!(UpdateParams, 48, {
    0 quotients: u64,
    8 before: u64,
    16 after: u64,
    24 clock: u64,
    32 step: u64,
    40 count: i32,
    44 orders: i32,
});

kernel_params!(ForecastParams, 48, {
    0 out: u64,
    8 before: u64,
    16 quotients: u64,
    24 clock: u64,
    32 step: u64,
    40 count: i32,
    44 order_stride: i32,
});

/// The series's orders and the elements of each, which the kernels must be able to take.
fn sizes(op: &'static str, series: &TaylorSeries) -> Result<[usize; 2]> {
    let [orders, rows, columns] = series.quotients.shape();
    expect(op, "quotients", orders <= MAX_ORDER + 1, || {
        (format!("orders up to {MAX_ORDER}"), (orders - 1).to_string())
    })?;
    Ok([orders, rows * columns])
}

pub(crate) fn taylor_update(
    cuda: &Arc<Cuda>,
    series: &TaylorSeries,
    before: Matrix<'_, Act>,
    after: Matrix<'_, Act>,
    step: &Tensor<u32, 1>,
) -> Result<()> {
    let [orders, count] = sizes(UPDATE, series)?;
    expect_contiguous(UPDATE, "before", before)?;
    expect_contiguous(UPDATE, "after", after)?;
    let params = UpdateParams {
        quotients: series.quotients.cuda_address(),
        before: before.cuda_address(),
        after: after.cuda_address(),
        clock: series.clock.cuda_address(),
        step: step.cuda_address(),
        count: int(UPDATE, "quotients", count)?,
        orders: int(UPDATE, "quotients", orders)?,
    };
    // Once all quotients are known; each but the last is read.
    let work = Work::Bytes(2 * (2 + 2 * orders - 1) * count);
    // An update of nothing still sets the clock.
    cuda.launch(UPDATE, elementwise_grid(UPDATE, count.max(1))?.doing(work), &params)
}

pub(crate) fn taylor_forecast(
    cuda: &Arc<Cuda>,
    out: &MatrixMut<'_, Act>,
    before: Matrix<'_, Act>,
    series: &TaylorSeries,
    first_row: usize,
    step: &Tensor<u32, 1>,
) -> Result<()> {
    let [orders, order_stride] = sizes(FORECAST, series)?;
    let [rows, columns] = out.shape();
    let count = rows * columns;
    if count == 0 {
        return Ok(());
    }
    expect_contiguous(FORECAST, "out", out.as_ref())?;
    expect_contiguous(FORECAST, "before", before)?;
    let first = series.quotients.matrix().rows(first_row..first_row + rows);
    let params = ForecastParams {
        out: out.as_ref().cuda_address(),
        before: before.cuda_address(),
        quotients: first.cuda_address(),
        clock: series.clock.cuda_address(),
        step: step.cuda_address(),
        count: int(FORECAST, "out", count)?,
        order_stride: int(FORECAST, "quotients", order_stride)?,
    };
    let work = Work::Bytes(2 * (2 + orders) * count);
    cuda.launch(FORECAST, elementwise_grid(FORECAST, count)?.doing(work), &params)
}
