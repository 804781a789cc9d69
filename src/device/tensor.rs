//! `Tensor<T, R>`: dtype and rank in the type, `[usize; R]` at run time, row-major, on one device.

use std::ops::Range;
use std::sync::Arc;

use bytemuck::Pod;
use half::bf16;
use half::slice::HalfFloatSliceExt;

use crate::device::Device;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::device::cuda::Buffer;
use crate::device::not_on_cuda;
use crate::device::not_on_host;
use crate::error::Error;
use crate::error::Result;

/// A logical element type and what holds it on each device.
pub trait Element: 'static + Send + Sync {
    /// The type in host memory.
    type Host: Pod + Default + PartialEq + Send + Sync + std::fmt::Debug;
    /// The type in CUDA memory.
    type Cuda: Pod + Default;
    /// The name used in messages.
    const NAME: &'static str;
    /// Host values as CUDA memory holds them.
    fn to_cuda(values: &[Self::Host]) -> Vec<Self::Cuda>;
    /// CUDA values as host memory holds them.
    fn to_host(values: &[Self::Cuda]) -> Vec<Self::Host>;
}

/// An activation: f32 on the CPU (the oracle), bf16 on CUDA.
#[derive(Debug, Clone, Copy)]
pub enum Act {}

impl Element for Act {
    type Host = f32;
    type Cuda = bf16;
    const NAME: &'static str = "act";

    fn to_cuda(values: &[f32]) -> Vec<bf16> {
        let mut narrow = vec![bf16::ZERO; values.len()];
        narrow.convert_from_f32_slice(values);
        narrow
    }

    fn to_host(values: &[bf16]) -> Vec<f32> {
        let mut wide = vec![0.0; values.len()];
        values.convert_to_f32_slice(&mut wide);
        wide
    }
}

macro_rules! plain_element {
    ($($host:ty => $name:literal),*) => {$(
        impl Element for $host {
            type Host = $host;
            type Cuda = $host;
            const NAME: &'static str = $name;

            fn to_cuda(values: &[$host]) -> Vec<$host> {
                values.to_vec()
            }

            fn to_host(values: &[$host]) -> Vec<$host> {
                values.to_vec()
            }
        }
    )*};
}
plain_element!(f32 => "f32", bf16 => "bf16", u32 => "u32", u8 => "u8");

/// A dense row-major tensor.
#[derive(Debug)]
pub struct Tensor<T: Element, const R: usize> {
    shape: [usize; R],
    storage: Storage<T>,
}

/// Where the elements are.
#[derive(Debug)]
enum Storage<T: Element> {
    Host(Vec<T::Host>),
    Cuda(Buffer),
}

impl<T: Element, const R: usize> Tensor<T, R> {
    /// A tensor of zeros in host memory.
    #[must_use]
    pub fn zeros(shape: [usize; R]) -> Self {
        // Memory that the system hands out zeroed: pages are first touched by the threads that fill
        // them.
        let data = bytemuck::zeroed_vec(shape.iter().product());
        Self { shape, storage: Storage::Host(data) }
    }

    /// A tensor for an op to write: zeros on the CPU, undefined on CUDA.
    ///
    /// # Errors
    /// [`Error::HostMemory`]; [`Error::OutOfMemory`] or [`Error::Cuda`].
    pub fn empty(device: &Device, shape: [usize; R]) -> Result<Self> {
        match device {
            Device::Cpu => {
                let count = shape.iter().product();
                let data = bytemuck::allocation::try_zeroed_vec(count);
                let bytes = count.saturating_mul(size_of::<T::Host>());
                let data = data.map_err(|()| Error::HostMemory { needed: bytes })?;
                Ok(Self { shape, storage: Storage::Host(data) })
            }
            Device::Cuda(cuda) => {
                let bytes = shape.iter().product::<usize>() * size_of::<T::Cuda>();
                Ok(Self { shape, storage: Storage::Cuda(Buffer::new(cuda, bytes)?) })
            }
        }
    }

    /// A tensor over `data`, row-major, in host memory.
    ///
    /// # Panics
    /// If `data` has not exactly as many elements as `shape` says: a bug of the caller.
    #[must_use]
    pub fn from_host(shape: [usize; R], data: Vec<T::Host>) -> Self {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "data does not fill {shape:?}");
        Self { shape, storage: Storage::Host(data) }
    }

    /// The size of each dimension.
    #[must_use]
    pub fn shape(&self) -> [usize; R] {
        self.shape
    }

    /// Where the tensor lives.
    #[must_use]
    pub fn device(&self) -> Device {
        match &self.storage {
            Storage::Host(_) => Device::Cpu,
            Storage::Cuda(buffer) => Device::Cuda(buffer.cuda().clone()),
        }
    }

    /// A tensor over what a buffer holds.
    pub(super) fn on_cuda(shape: [usize; R], buffer: Buffer) -> Self {
        Self { shape, storage: Storage::Cuda(buffer) }
    }

    /// The buffer in CUDA memory, or the elements in host memory.
    pub(super) fn into_parts(self) -> Result<Buffer, Vec<T::Host>> {
        match self.storage {
            Storage::Cuda(buffer) => Ok(buffer),
            Storage::Host(data) => Err(data),
        }
    }

    /// The same tensor on `device`, converted to that device's element type.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub fn to_device(self, device: &Device) -> Result<Self> {
        match (self.storage, device) {
            (Storage::Host(data), Device::Cuda(cuda)) => {
                let mut buffer = Buffer::new(cuda, data.len() * size_of::<T::Cuda>())?;
                buffer.upload(data.len(), |range, values| {
                    values.copy_from_slice(&T::to_cuda(&data[range]));
                })?;
                Ok(Self { shape: self.shape, storage: Storage::Cuda(buffer) })
            }
            (storage @ Storage::Cuda(_), Device::Cpu) => {
                Self { shape: self.shape, storage }.to_host()
            }
            (Storage::Cuda(buffer), Device::Cuda(cuda)) if !Arc::ptr_eq(buffer.cuda(), cuda) => {
                let storage = Storage::Cuda(buffer);
                Self { shape: self.shape, storage }.to_host()?.to_device(device)
            }
            (storage, _) => Ok(Self { shape: self.shape, storage }),
        }
    }

    /// Overwrites the elements with those of a tensor in host memory.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`].
    ///
    /// # Panics
    /// If the shapes differ or `source` lives elsewhere: a bug of the caller.
    pub fn copy_from_host(&mut self, source: &Self) -> Result<()> {
        assert_eq!(self.shape, source.shape, "copy between different shapes");
        let source = source.host();
        match &mut self.storage {
            Storage::Host(data) => data.copy_from_slice(source),
            Storage::Cuda(buffer) => buffer.upload(source.len(), |range, values| {
                values.copy_from_slice(&T::to_cuda(&source[range]));
            })?,
        }
        Ok(())
    }

    /// A copy in host memory.
    ///
    /// # Errors
    /// [`crate::Error::Cuda`] for what went wrong in the work before it.
    pub fn to_host(&self) -> Result<Self> {
        match &self.storage {
            Storage::Host(data) => Ok(Self::from_host(self.shape, data.clone())),
            Storage::Cuda(buffer) => {
                let mut values = vec![T::Cuda::default(); self.shape.iter().product()];
                if !values.is_empty() {
                    buffer.download(&mut values)?;
                }
                Ok(Self::from_host(self.shape, T::to_host(&values)))
            }
        }
    }

    /// The elements in host memory, row-major.
    ///
    /// # Panics
    /// If the tensor lives elsewhere: a bug of the caller.
    #[must_use]
    pub fn host(&self) -> &[T::Host] {
        match &self.storage {
            Storage::Host(data) => data,
            Storage::Cuda(_) => not_on_host(),
        }
    }

    /// The elements in host memory, row-major.
    ///
    /// # Panics
    /// If the tensor lives elsewhere: a bug of the caller.
    pub fn host_mut(&mut self) -> &mut [T::Host] {
        match &mut self.storage {
            Storage::Host(data) => data,
            Storage::Cuda(_) => not_on_host(),
        }
    }

    /// The first element's address in CUDA memory.
    ///
    /// # Panics
    /// If the tensor lives elsewhere: a bug of the caller.
    pub(crate) fn cuda_address(&self) -> u64 {
        match &self.storage {
            Storage::Host(_) => not_on_cuda(),
            Storage::Cuda(buffer) => buffer.address(),
        }
    }

    /// The same elements with another shape.
    ///
    /// # Panics
    /// If the two shapes hold different numbers of elements: a bug of the caller.
    #[must_use]
    pub fn reshape<const Q: usize>(self, shape: [usize; Q]) -> Tensor<T, Q> {
        let [before, after]: [usize; 2] = [self.shape.iter().product(), shape.iter().product()];
        assert_eq!(before, after, "{:?} does not fill {shape:?}", self.shape);
        Tensor { shape, storage: self.storage }
    }

    /// Rows and columns as a matrix: the last dimension is the columns, the others are the rows.
    fn rows_and_columns(&self) -> [usize; 2] {
        let columns = self.shape.last().copied().unwrap_or(1);
        let elements: usize = self.shape.iter().product();
        [elements.checked_div(columns).unwrap_or(0), columns]
    }

    /// All elements as a matrix: the last dimension is the columns, the others are the rows.
    #[must_use]
    pub fn matrix(&self) -> Matrix<'_, T> {
        let [rows, columns] = self.rows_and_columns();
        match &self.storage {
            Storage::Host(data) => Matrix::new(data, rows, columns),
            Storage::Cuda(buffer) => Matrix::on_cuda(buffer, rows, columns),
        }
    }

    /// All elements as a matrix of so many rows.
    ///
    /// # Panics
    /// If they do not divide evenly: a bug of the caller.
    pub(crate) fn matrix_of(&self, rows: usize) -> Matrix<'_, T> {
        let elements: usize = self.shape.iter().product();
        assert!(elements.is_multiple_of(rows), "{:?} has no {rows} rows", self.shape);
        match &self.storage {
            Storage::Host(data) => Matrix::new(data, rows, elements / rows),
            Storage::Cuda(buffer) => Matrix::on_cuda(buffer, rows, elements / rows),
        }
    }

    /// All elements as a matrix: the last dimension is the columns, the others are the rows.
    pub fn matrix_mut(&mut self) -> MatrixMut<'_, T> {
        let [rows, columns] = self.rows_and_columns();
        match &mut self.storage {
            Storage::Host(data) => MatrixMut::new(data, rows, columns),
            Storage::Cuda(buffer) => MatrixMut::on_cuda(buffer, rows, columns),
        }
    }
}

impl<T: Element<Host = N, Cuda = N>, N: Pod + Default, const R: usize> Tensor<T, R> {
    /// A tensor of numbers that are the same on every device, which `fill` writes: all at once on the
    /// CPU, one run after the other on CUDA, beside the copying of the one before.
    ///
    /// # Errors
    /// [`crate::Error::OutOfMemory`] or [`crate::Error::Cuda`].
    pub(crate) fn filled(
        device: &Device,
        shape: [usize; R],
        mut fill: impl FnMut(Range<usize>, &mut [N]),
    ) -> Result<Self> {
        let mut tensor = Self::empty(device, shape)?;
        match &mut tensor.storage {
            Storage::Host(data) => fill(0..data.len(), data),
            Storage::Cuda(buffer) => buffer.upload(shape.iter().product(), fill)?,
        }
        Ok(tensor)
    }
}

impl<T: Element, const R: usize> Clone for Tensor<T, R> {
    /// A copy of a tensor in host memory; requests are cloned, tensors of a model never.
    fn clone(&self) -> Self {
        Self::from_host(self.shape, self.host().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_not_there_is_an_error() {
        let error = Tensor::<f32, 2>::empty(&Device::Cpu, [1 << 30, 1 << 30]).unwrap_err();
        assert!(matches!(error, Error::HostMemory { needed } if needed == 1 << 62), "{error}");
        assert_eq!(error.exit_code(), 5);
    }
}
