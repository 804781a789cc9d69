//! Matrices in e4m3 with f32 scales: an element is its value times the scale of its row.

use std::ops::Range;

use crate::device::Device;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::error::Result;

/// What values are multiples of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// A scale of their row: whoever writes it sees the whole row.
    Row,
    /// Units of their column, fixed beforehand, which the weight of the layer that reads them has
    /// taken in: the scales of all rows are 1. Whoever writes a tile needs nothing beside it.
    Units,
}

/// A quantised matrix.
#[derive(Debug)]
pub struct Quantized {
    /// `[M, K]` in e4m3.
    values: Tensor<u8, 2>,
    /// `[1, M]`.
    scales: Tensor<f32, 2>,
    scaling: Scaling,
}

/// A read-only view of a quantised `[M, K]` matrix.
#[derive(Debug, Clone, Copy)]
pub struct QuantizedRef<'a> {
    /// `[M, K]` in e4m3.
    pub values: Matrix<'a, u8>,
    /// `[1, M]`.
    pub scales: Matrix<'a, f32>,
    /// What a scale is for.
    pub scaling: Scaling,
}

/// A writable view of a quantised `[M, K]` matrix.
#[derive(Debug)]
pub struct QuantizedMut<'a> {
    /// `[M, K]` in e4m3.
    pub values: MatrixMut<'a, u8>,
    /// `[1, M]`.
    pub scales: MatrixMut<'a, f32>,
    /// What a scale is for.
    pub scaling: Scaling,
}

impl Quantized {
    /// A matrix for an op to write.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub fn empty(device: &Device, [rows, columns]: [usize; 2], scaling: Scaling) -> Result<Self> {
        let scales = match scaling {
            Scaling::Row => Tensor::empty(device, [1, rows])?,
            Scaling::Units => ones(rows).to_device(device)?,
        };
        Ok(Self { values: Tensor::empty(device, [rows, columns])?, scales, scaling })
    }

    /// A matrix of numbers `[M, K]` and their scales `[1, M]`, on one device.
    pub(crate) fn of(values: Tensor<u8, 2>, scales: Tensor<f32, 2>, scaling: Scaling) -> Self {
        Self { values, scales, scaling }
    }

    /// A matrix of zeros in host memory.
    #[must_use]
    pub fn zeros([rows, columns]: [usize; 2], scaling: Scaling) -> Self {
        let scales = match scaling {
            Scaling::Row => Tensor::zeros([1, rows]),
            Scaling::Units => ones(rows),
        };
        Self { values: Tensor::zeros([rows, columns]), scales, scaling }
    }

    /// The same elements on `device`.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub fn to_device(self, device: &Device) -> Result<Self> {
        let Self { values, scales, scaling } = self;
        let (values, scales) = (values.to_device(device)?, scales.to_device(device)?);
        Ok(Self { values, scales, scaling })
    }

    /// Values and scales, taken apart; [`Self::of_parts`] joins them.
    #[must_use]
    pub fn into_parts(self) -> (Tensor<u8, 2>, Tensor<f32, 2>, Scaling) {
        (self.values, self.scales, self.scaling)
    }

    /// A matrix of values `[M, K]` and scales `[1, M]`.
    #[must_use]
    pub fn of_parts(values: Tensor<u8, 2>, scales: Tensor<f32, 2>, scaling: Scaling) -> Self {
        Self { values, scales, scaling }
    }

    /// The whole of it.
    #[must_use]
    pub fn view(&self) -> QuantizedRef<'_> {
        let Self { values, scales, scaling } = self;
        QuantizedRef { values: values.matrix(), scales: scales.matrix(), scaling: *scaling }
    }

    /// The whole of it, to write.
    pub fn view_mut(&mut self) -> QuantizedMut<'_> {
        let Self { values, scales, scaling } = self;
        let (values, scales) = (values.matrix_mut(), scales.matrix_mut());
        QuantizedMut { values, scales, scaling: *scaling }
    }
}

/// Scales of rows in units.
fn ones(rows: usize) -> Tensor<f32, 2> {
    Tensor::from_host([1, rows], vec![1.0; rows])
}

impl QuantizedRef<'_> {
    /// `[M, K]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.values.shape()
    }

    /// The rows `rows` only.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Self {
        let Self { values, scales, scaling } = *self;
        Self { values: values.rows(rows.clone()), scales: scales.columns(rows), scaling }
    }

    /// The columns `columns` only.
    #[must_use]
    pub fn columns(&self, columns: Range<usize>) -> Self {
        Self { values: self.values.columns(columns), ..*self }
    }
}

impl QuantizedMut<'_> {
    /// `[M, K]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        self.values.shape()
    }

    /// A shorter-lived view of the same elements.
    pub fn reborrow(&mut self) -> QuantizedMut<'_> {
        let Self { values, scales, scaling } = self;
        let (values, scales) = (values.reborrow(), scales.reborrow());
        QuantizedMut { values, scales, scaling: *scaling }
    }

    /// The rows `rows` only.
    #[must_use]
    pub fn rows(self, rows: Range<usize>) -> Self {
        let Self { values, scales, scaling } = self;
        Self { values: values.rows(rows.clone()), scales: scales.columns(rows), scaling }
    }

    /// The columns `columns` only.
    #[must_use]
    pub fn columns(self, columns: Range<usize>) -> Self {
        let Self { values, scales, scaling } = self;
        Self { values: values.columns(columns), scales, scaling }
    }
}
