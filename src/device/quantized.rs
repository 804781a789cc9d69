//! Matrices in e4m3 with f32 scales: an element is its value times the scale of its row and block of
//! columns.

use std::ops::Range;

use crate::device::Device;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::error::Result;

/// Columns that share a scale, where a row has several.
pub const BLOCK: usize = 128;

/// How many scales a row has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scaling {
    /// One: whoever writes it sees the whole row.
    Row,
    /// One for every [`BLOCK`] columns: whoever writes a tile of it sees what it needs.
    Block,
}

/// A quantised matrix.
#[derive(Debug)]
pub struct Quantized {
    /// `[M, K]` in e4m3.
    values: Tensor<u8, 2>,
    /// `[1 or ceil(K / 128), M or more]`: the rows of a tile are neighbours, and each row of scales
    /// begins at a multiple of 16 bytes, as bulk copies need it.
    scales: Tensor<f32, 2>,
    scaling: Scaling,
}

/// A read-only view of a quantised `[M, K]` matrix.
#[derive(Debug, Clone, Copy)]
pub struct QuantizedRef<'a> {
    /// `[M, K]` in e4m3.
    pub values: Matrix<'a, u8>,
    /// `[1 or ceil(K / 128), M]`.
    pub scales: Matrix<'a, f32>,
    /// What a scale is for.
    pub scaling: Scaling,
}

/// A writable view of a quantised `[M, K]` matrix.
#[derive(Debug)]
pub struct QuantizedMut<'a> {
    /// `[M, K]` in e4m3.
    pub values: MatrixMut<'a, u8>,
    /// `[1 or ceil(K / 128), M]`.
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
        let scales = scales_shape([rows, columns], scaling);
        Ok(Self {
            values: Tensor::empty(device, [rows, columns])?,
            scales: Tensor::empty(device, scales)?,
            scaling,
        })
    }

    /// A matrix of zeros in host memory.
    #[must_use]
    pub fn zeros([rows, columns]: [usize; 2], scaling: Scaling) -> Self {
        let scales = scales_shape([rows, columns], scaling);
        Self { values: Tensor::zeros([rows, columns]), scales: Tensor::zeros(scales), scaling }
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

    /// The whole of it.
    #[must_use]
    pub fn view(&self) -> QuantizedRef<'_> {
        let Self { values, scales, scaling } = self;
        let (values, [rows, _]) = (values.matrix(), values.shape());
        QuantizedRef { values, scales: scales.matrix().columns(0..rows), scaling: *scaling }
    }

    /// The whole of it, to write.
    pub fn view_mut(&mut self) -> QuantizedMut<'_> {
        let Self { values, scales, scaling } = self;
        let [rows, _] = values.shape();
        let (values, scales) = (values.matrix_mut(), scales.matrix_mut().columns(0..rows));
        QuantizedMut { values, scales, scaling: *scaling }
    }
}

/// What holds the scales of a matrix.
fn scales_shape([rows, columns]: [usize; 2], scaling: Scaling) -> [usize; 2] {
    [blocks(scaling, &(0..columns)).len(), rows.next_multiple_of(4)]
}

/// The scales of a range of columns, which starts where a block does.
fn blocks(scaling: Scaling, columns: &Range<usize>) -> Range<usize> {
    match scaling {
        Scaling::Row => 0..1,
        Scaling::Block => {
            assert!(columns.start.is_multiple_of(BLOCK), "a view starts with a whole block");
            columns.start / BLOCK..columns.end.div_ceil(BLOCK)
        }
    }
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

    /// The columns `columns` only, which start with a whole block.
    #[must_use]
    pub fn columns(&self, columns: Range<usize>) -> Self {
        let Self { values, scales, scaling } = *self;
        let blocks = blocks(scaling, &columns);
        Self { values: values.columns(columns), scales: scales.rows(blocks), scaling }
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

    /// The columns `columns` only, which start with a whole block.
    #[must_use]
    pub fn columns(self, columns: Range<usize>) -> Self {
        let Self { values, scales, scaling } = self;
        let blocks = blocks(scaling, &columns);
        Self { values: values.columns(columns), scales: scales.rows(blocks), scaling }
    }
}
