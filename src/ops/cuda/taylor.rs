//! Launchers of `taylor_update` and `taylor_forecast`.
use crate::device::*;
use crate::error::*;
use crate::ops::taylor::TaylorSeries;
use std::sync::Arc;
pub(crate) fn taylor_update(
    _cuda: &Arc<Cuda>,
    _series: &TaylorSeries,
    _before: Matrix<'_, Act>,
    _after: Matrix<'_, Act>,
    _step: &Tensor<u32, 1>,
) -> Result<()> {
    Err(Error::Cuda { call: "taylor", reason: "no launcher".into() })
}
pub(crate) fn taylor_forecast(
    _cuda: &Arc<Cuda>,
    _out: &MatrixMut<'_, Act>,
    _before: Matrix<'_, Act>,
    _series: &TaylorSeries,
    _first_row: usize,
    _step: &Tensor<u32, 1>,
) -> Result<()> {
    Err(Error::Cuda { call: "taylor", reason: "no launcher".into() })
}
