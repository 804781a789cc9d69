//! Strided views of tensors: a range of rows, a range of columns, or both.
//!
//! The joint buffers need them: text and image are row ranges of one `[S, D]` tensor, attention and
//! MLP output are column ranges of one `[S, D + M]` tensor.

use std::ops::Range;

use crate::device::Act;
use crate::device::Element;

/// A read-only `[rows, cols]` view; row `r` starts at `r * stride`.
#[derive(Debug)]
pub struct Matrix<'a, T: Element> {
    data: &'a [T::Host],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// A writable `[rows, cols]` view; row `r` starts at `r * stride`.
#[derive(Debug)]
pub struct MatrixMut<'a, T: Element> {
    data: &'a mut [T::Host],
    rows: usize,
    cols: usize,
    stride: usize,
}

/// The part of a strided buffer that `rows` x `columns` covers: first element and one past the last.
fn span(rows: &Range<usize>, columns: &Range<usize>, stride: usize) -> Range<usize> {
    if rows.is_empty() || columns.is_empty() {
        return 0..0;
    }
    rows.start * stride + columns.start..(rows.end - 1) * stride + columns.end
}

impl<T: Element> Clone for Matrix<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Element> Copy for Matrix<'_, T> {}

impl<'a, T: Element> Matrix<'a, T> {
    /// A view of `rows * cols` contiguous elements.
    ///
    /// # Panics
    /// If `data` has another length: a bug of the caller.
    #[must_use]
    pub fn new(data: &'a [T::Host], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "data does not fill {rows} x {cols}");
        Self { data, rows, cols, stride: cols }
    }

    /// `[rows, cols]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Elements from the start of a row to the start of the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The host elements from the first of the first row to the last of the last row.
    #[must_use]
    pub fn host(&self) -> &'a [T::Host] {
        self.data
    }

    /// One row in host memory.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [T::Host] {
        &self.data[row * self.stride..][..self.cols]
    }

    /// The rows `rows` only.
    #[must_use]
    pub fn rows(&self, rows: Range<usize>) -> Self {
        self.part(rows, 0..self.cols)
    }

    /// The columns `columns` only.
    #[must_use]
    pub fn columns(&self, columns: Range<usize>) -> Self {
        self.part(0..self.rows, columns)
    }

    fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.cols, "view outside its matrix");
        let data = &self.data[span(&rows, &columns, self.stride)];
        Self { data, rows: rows.len(), cols: columns.len(), stride: self.stride }
    }
}

impl<'a, T: Element> MatrixMut<'a, T> {
    /// A view of `rows * cols` contiguous elements.
    ///
    /// # Panics
    /// If `data` has another length: a bug of the caller.
    #[must_use]
    pub fn new(data: &'a mut [T::Host], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "data does not fill {rows} x {cols}");
        Self { data, rows, cols, stride: cols }
    }

    /// `[rows, cols]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        [self.rows, self.cols]
    }

    /// Elements from the start of a row to the start of the next.
    #[must_use]
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// The host elements from the first of the first row to the last of the last row.
    pub fn host_mut(&mut self) -> &mut [T::Host] {
        self.data
    }

    /// One row in host memory.
    pub fn row_mut(&mut self, row: usize) -> &mut [T::Host] {
        &mut self.data[row * self.stride..][..self.cols]
    }

    /// A shorter-lived view of the same elements.
    pub fn reborrow(&mut self) -> MatrixMut<'_, T> {
        MatrixMut { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// Copies all elements of a view of the same shape.
    ///
    /// # Panics
    /// If the shapes differ: a bug of the caller.
    pub fn copy_from(&mut self, source: Matrix<'_, T>) {
        assert_eq!(self.shape(), source.shape(), "copy between different shapes");
        for row in 0..self.rows {
            self.row_mut(row).copy_from_slice(source.row(row));
        }
    }

    /// The same elements, read-only.
    #[must_use]
    pub fn as_ref(&self) -> Matrix<'_, T> {
        Matrix { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// The rows `rows` only.
    #[must_use]
    pub fn rows(self, rows: Range<usize>) -> Self {
        let columns = 0..self.cols;
        self.part(rows, columns)
    }

    /// The columns `columns` only.
    #[must_use]
    pub fn columns(self, columns: Range<usize>) -> Self {
        let rows = 0..self.rows;
        self.part(rows, columns)
    }

    /// Cuts the view between two rows, so that both parts can be written at the same time.
    ///
    /// # Panics
    /// If `row` lies outside the view: a bug of the caller.
    #[must_use]
    pub fn split_at_row(self, row: usize) -> (Self, Self) {
        assert!(row <= self.rows, "cut outside the matrix");
        let (rows, cols, stride) = (self.rows, self.cols, self.stride);
        let cut = if row == rows { self.data.len() } else { row * stride };
        let (head, tail) = self.data.split_at_mut(cut);
        let head_len = head.len().min(span(&(0..row), &(0..cols), stride).end);
        (
            Self { data: &mut head[..head_len], rows: row, cols, stride },
            Self { data: tail, rows: rows - row, cols, stride },
        )
    }

    fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.cols, "view outside its matrix");
        let data = &mut self.data[span(&rows, &columns, self.stride)];
        Self { data, rows: rows.len(), cols: columns.len(), stride: self.stride }
    }
}

impl<'a> From<Matrix<'a, Act>> for Matrix<'a, f32> {
    /// On the host an activation is an f32.
    fn from(matrix: Matrix<'a, Act>) -> Self {
        let Matrix { data, rows, cols, stride } = matrix;
        Self { data, rows, cols, stride }
    }
}

impl MatrixMut<'_, Act> {
    /// On the host an activation is an f32.
    pub fn as_f32(&mut self) -> MatrixMut<'_, f32> {
        MatrixMut { data: self.data, rows: self.rows, cols: self.cols, stride: self.stride }
    }
}
