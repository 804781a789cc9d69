//! TaylorSeer: the effect of the skipped blocks, forecast from the effects of the last computed steps.
//!
//! Spec dualcache 13.1; reference `TaylorSeerState` of cache-dit 1.5.3. `Y0` is the last effect, `Yi` its
//! i-th difference quotient, whose gap is that of the last two computed steps whatever the order.
//! Oracles: `cpu/taylor.rs`.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

pub(crate) const UPDATE: &str = "taylor_update";
pub(crate) const FORECAST: &str = "taylor_forecast";

/// The highest order that there are kernels for.
pub const MAX_ORDER: usize = 2;
/// The first step at which a difference quotient is taken.
pub(crate) const FIRST_QUOTIENT_STEP: u32 = 3;

/// The difference quotients of one block list.
#[derive(Debug)]
pub struct TaylorSeries {
    /// `[orders + 1, R, D]`.
    pub(crate) quotients: Tensor<Act, 3>,
    /// `[2]`: the last computed step, how many of the quotients there are.
    pub(crate) clock: Tensor<u32, 1>,
}

impl TaylorSeries {
    /// Up to `order`, of effects `[R, D]`; [`TaylorSeries::reset`] comes before the first update.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub fn new(device: &Device, order: usize, [rows, columns]: [usize; 2]) -> Result<Self> {
        Ok(Self {
            quotients: Tensor::empty(device, [order + 1, rows, columns])?,
            clock: Tensor::empty(device, [2])?,
        })
    }

    /// Forgets all quotients.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    pub fn reset(&mut self) -> Result<()> {
        self.clock.copy_from_host(&Tensor::zeros([2]))
    }

    fn expect(&self, op: &'static str, shape: [usize; 2]) -> Result<()> {
        let [_, rows, columns] = self.quotients.shape();
        expect_shape(op, "quotients", shape, [rows, columns])
    }
}

/// Takes in the effect `after - before [R, D]` of the computed step that `step [1]` counts from 0.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn taylor_update(
    series: &mut TaylorSeries,
    before: Matrix<'_, Act>,
    after: Matrix<'_, Act>,
    step: &Tensor<u32, 1>,
) -> Result<()> {
    series.expect(UPDATE, before.shape())?;
    series.expect(UPDATE, after.shape())?;
    expect_shape(UPDATE, "step", step.shape(), [1])?;
    if let Device::Cuda(cuda) = series.clock.device() {
        return cuda::taylor::taylor_update(&cuda, series, before, after, step);
    }
    cpu::taylor::taylor_update(series, before, after, step.host()[0]);
    Ok(())
}

/// `out [R, D] = before [R, D] + sum of Yi e^i / i!`, `e` being the steps since the last computed one.
/// `first_row` is where the rows of `out` and `before` begin in the series.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn taylor_forecast(
    mut out: MatrixMut<'_, Act>,
    before: Matrix<'_, Act>,
    series: &TaylorSeries,
    first_row: usize,
    step: &Tensor<u32, 1>,
) -> Result<()> {
    let [rows, columns] = out.shape();
    series.expect(FORECAST, [first_row + rows, columns])?;
    expect_shape(FORECAST, "before", before.shape(), [rows, columns])?;
    expect_shape(FORECAST, "step", step.shape(), [1])?;
    if let Device::Cuda(cuda) = series.clock.device() {
        return cuda::taylor::taylor_forecast(&cuda, &out, before, series, first_row, step);
    }
    cpu::taylor::taylor_forecast(&mut out, before, series, first_row, step.host()[0]);
    Ok(())
}
