//! Strided views of tensors: a range of rows, a range of columns, or both.
//!
//! The joint buffers need them: text and image are row ranges of one `[S, D]` tensor, attention and
//! MLP output are column ranges of one `[S, D + M]` tensor.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;

use crate::device::Act;
use crate::device::Device;
use crate::device::Element;
use crate::device::cuda::Buffer;
use crate::device::not_on_cuda;
use crate::device::not_on_host;
use crate::error::Result;

/// A read-only `[rows, cols]` view; row `r` starts at `r * stride`.
#[derive(Debug)]
pub struct Matrix<'a, T: Element> {
    data: Data<'a, T>,
    rows: usize,
    cols: usize,
    stride: usize,
}

/// A writable `[rows, cols]` view; row `r` starts at `r * stride`.
#[derive(Debug)]
pub struct MatrixMut<'a, T: Element> {
    data: DataMut<'a, T>,
    rows: usize,
    cols: usize,
    stride: usize,
}

/// The elements of a view, from the first of the first row to the last of the last row.
#[derive(Debug)]
enum Data<'a, T: Element> {
    Host(&'a [T::Host]),
    Cuda(CudaRange<'a>),
}

/// As [`Data`], writable.
#[derive(Debug)]
enum DataMut<'a, T: Element> {
    Host(&'a mut [T::Host]),
    Cuda(CudaRange<'a>),
}

/// A part of a buffer in CUDA memory, in elements.
#[derive(Debug, Clone, Copy)]
struct CudaRange<'a> {
    buffer: &'a Buffer,
    first: usize,
    len: usize,
}

impl CudaRange<'_> {
    fn part(self, range: Range<usize>) -> Self {
        assert!(range.end <= self.len, "view outside its matrix");
        Self { buffer: self.buffer, first: self.first + range.start, len: range.len() }
    }

    fn address(self, element_bytes: usize) -> u64 {
        self.buffer.address() + (self.first * element_bytes) as u64
    }
}

impl<T: Element> Clone for Data<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T: Element> Copy for Data<'_, T> {}

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
        Self { data: Data::Host(data), rows, cols, stride: cols }
    }

    /// A view of a whole buffer.
    pub(super) fn on_cuda(buffer: &'a Buffer, rows: usize, cols: usize) -> Self {
        let range = CudaRange { buffer, first: 0, len: rows * cols };
        Self { data: Data::Cuda(range), rows, cols, stride: cols }
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

    /// Where the elements live.
    #[must_use]
    pub fn device(&self) -> Device {
        match self.data {
            Data::Host(_) => Device::Cpu,
            Data::Cuda(range) => Device::Cuda(range.buffer.cuda().clone()),
        }
    }

    /// The host elements from the first of the first row to the last of the last row.
    ///
    /// # Panics
    /// If they live elsewhere: a bug of the caller.
    #[must_use]
    pub fn host(&self) -> &'a [T::Host] {
        match self.data {
            Data::Host(data) => data,
            Data::Cuda(_) => not_on_host(),
        }
    }

    /// The first element's address in CUDA memory.
    ///
    /// # Panics
    /// If they live elsewhere: a bug of the caller.
    pub(crate) fn cuda_address(&self) -> u64 {
        match self.data {
            Data::Host(_) => not_on_cuda(),
            Data::Cuda(range) => range.address(size_of::<T::Cuda>()),
        }
    }

    /// One row in host memory.
    ///
    /// # Panics
    /// If it lives elsewhere: a bug of the caller.
    #[must_use]
    pub fn row(&self, row: usize) -> &'a [T::Host] {
        &self.host()[row * self.stride..][..self.cols]
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
        let span = span(&rows, &columns, self.stride);
        let data = match self.data {
            Data::Host(data) => Data::Host(&data[span]),
            Data::Cuda(range) => Data::Cuda(range.part(span)),
        };
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
        Self { data: DataMut::Host(data), rows, cols, stride: cols }
    }

    /// A view of a whole buffer.
    pub(super) fn on_cuda(buffer: &'a mut Buffer, rows: usize, cols: usize) -> Self {
        let range = CudaRange { buffer, first: 0, len: rows * cols };
        Self { data: DataMut::Cuda(range), rows, cols, stride: cols }
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

    /// Where the elements live.
    #[must_use]
    pub fn device(&self) -> Device {
        self.as_ref().device()
    }

    /// The host elements from the first of the first row to the last of the last row.
    ///
    /// # Panics
    /// If they live elsewhere: a bug of the caller.
    pub fn host_mut(&mut self) -> &mut [T::Host] {
        match &mut self.data {
            DataMut::Host(data) => data,
            DataMut::Cuda(_) => not_on_host(),
        }
    }

    /// One row in host memory.
    ///
    /// # Panics
    /// If it lives elsewhere: a bug of the caller.
    pub fn row_mut(&mut self, row: usize) -> &mut [T::Host] {
        let (first, cols) = (row * self.stride, self.cols);
        &mut self.host_mut()[first..][..cols]
    }

    /// A shorter-lived view of the same elements.
    pub fn reborrow(&mut self) -> MatrixMut<'_, T> {
        let data = match &mut self.data {
            DataMut::Host(data) => DataMut::Host(data),
            DataMut::Cuda(range) => DataMut::Cuda(*range),
        };
        MatrixMut { data, rows: self.rows, cols: self.cols, stride: self.stride }
    }

    /// Copies all elements of a view of the same shape.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    ///
    /// # Panics
    /// If the shapes or devices differ: a bug of the caller.
    pub fn copy_from(&mut self, source: Matrix<'_, T>) -> Result<()> {
        assert_eq!(self.shape(), source.shape(), "copy between different shapes");
        if let (DataMut::Cuda(to), Data::Cuda(from)) = (&self.data, source.data) {
            let element = size_of::<T::Cuda>();
            let same = Arc::ptr_eq(to.buffer.cuda(), from.buffer.cuda());
            assert!(same, "copy between different GPUs");
            return to.buffer.cuda().copy_rows(
                [to.address(element), from.address(element)],
                [self.stride * element, source.stride * element],
                [self.rows, self.cols * element],
            );
        }
        for row in 0..self.rows {
            self.row_mut(row).copy_from_slice(source.row(row));
        }
        Ok(())
    }

    /// The same elements, read-only.
    #[must_use]
    pub fn as_ref(&self) -> Matrix<'_, T> {
        let data = match &self.data {
            DataMut::Host(data) => Data::Host(data),
            DataMut::Cuda(range) => Data::Cuda(*range),
        };
        Matrix { data, rows: self.rows, cols: self.cols, stride: self.stride }
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
        let spans = [span(&(0..row), &(0..cols), stride), span(&(row..rows), &(0..cols), stride)];
        let (head, tail) = match self.data {
            DataMut::Host(data) => {
                let cut = if row == rows { data.len() } else { row * stride };
                let (head, tail) = data.split_at_mut(cut);
                (DataMut::Host(&mut head[..spans[0].len()]), DataMut::Host(tail))
            }
            DataMut::Cuda(range) => {
                let [head, tail] = spans.map(|span| DataMut::Cuda(range.part(span)));
                (head, tail)
            }
        };
        (
            Self { data: head, rows: row, cols, stride },
            Self { data: tail, rows: rows - row, cols, stride },
        )
    }

    fn part(self, rows: Range<usize>, columns: Range<usize>) -> Self {
        assert!(rows.end <= self.rows && columns.end <= self.cols, "view outside its matrix");
        let span = span(&rows, &columns, self.stride);
        let data = match self.data {
            DataMut::Host(data) => DataMut::Host(&mut data[span]),
            DataMut::Cuda(range) => DataMut::Cuda(range.part(span)),
        };
        Self { data, rows: rows.len(), cols: columns.len(), stride: self.stride }
    }
}

impl<'a> Matrix<'a, bf16> {
    /// In CUDA memory an activation is a bf16.
    ///
    /// # Panics
    /// If the elements live elsewhere: a bug of the caller.
    pub(crate) fn as_act(&self) -> Matrix<'a, Act> {
        let Self { rows, cols, stride, .. } = *self;
        let Data::Cuda(range) = self.data else { not_on_cuda() };
        Matrix { data: Data::Cuda(range), rows, cols, stride }
    }
}

impl<'a> From<Matrix<'a, Act>> for Matrix<'a, f32> {
    /// On the host an activation is an f32.
    fn from(matrix: Matrix<'a, Act>) -> Self {
        let Matrix { rows, cols, stride, .. } = matrix;
        Self { data: Data::Host(matrix.host()), rows, cols, stride }
    }
}

impl MatrixMut<'_, Act> {
    /// On the host an activation is an f32.
    pub fn as_f32(&mut self) -> MatrixMut<'_, f32> {
        let (rows, cols, stride) = (self.rows, self.cols, self.stride);
        MatrixMut { data: DataMut::Host(self.host_mut()), rows, cols, stride }
    }
}
