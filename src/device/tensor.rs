//! `Tensor<T, R>`: dtype and rank in the type, `[usize; R]` at run time, row-major.

use bytemuck::Pod;

use crate::device::Matrix;
use crate::device::MatrixMut;

/// A logical element type and what holds it on each device.
pub trait Element: 'static + Send + Sync {
    /// The type in host memory.
    type Host: Pod + Default + PartialEq + Send + Sync + std::fmt::Debug;
    /// The name used in messages.
    const NAME: &'static str;
}

/// An activation: f32 on the CPU (the oracle), bf16 on CUDA.
#[derive(Debug, Clone, Copy)]
pub enum Act {}

impl Element for Act {
    type Host = f32;
    const NAME: &'static str = "act";
}

macro_rules! plain_element {
    ($($host:ty => $name:literal),*) => {$(
        impl Element for $host {
            type Host = $host;
            const NAME: &'static str = $name;
        }
    )*};
}
plain_element!(f32 => "f32", half::bf16 => "bf16", u32 => "u32", u8 => "u8");

/// A dense row-major tensor.
#[derive(Debug)]
pub struct Tensor<T: Element, const R: usize> {
    shape: [usize; R],
    data: Vec<T::Host>,
}

impl<T: Element, const R: usize> Tensor<T, R> {
    /// A tensor of zeros.
    #[must_use]
    pub fn zeros(shape: [usize; R]) -> Self {
        Self { shape, data: vec![T::Host::default(); shape.iter().product()] }
    }

    /// A tensor over `data`, row-major.
    ///
    /// # Panics
    /// If `data` has not exactly as many elements as `shape` says: a bug of the caller.
    #[must_use]
    pub fn from_host(shape: [usize; R], data: Vec<T::Host>) -> Self {
        assert_eq!(data.len(), shape.iter().product::<usize>(), "data does not fill {shape:?}");
        Self { shape, data }
    }

    /// The size of each dimension.
    #[must_use]
    pub fn shape(&self) -> [usize; R] {
        self.shape
    }

    /// The elements in host memory, row-major.
    #[must_use]
    pub fn host(&self) -> &[T::Host] {
        &self.data
    }

    /// The elements in host memory, row-major.
    pub fn host_mut(&mut self) -> &mut [T::Host] {
        &mut self.data
    }

    /// The same elements with another shape.
    ///
    /// # Panics
    /// If the two shapes hold different numbers of elements: a bug of the caller.
    #[must_use]
    pub fn reshape<const Q: usize>(self, shape: [usize; Q]) -> Tensor<T, Q> {
        Tensor::from_host(shape, self.data)
    }

    /// All elements as a matrix: the last dimension is the columns, the others are the rows.
    #[must_use]
    pub fn matrix(&self) -> Matrix<'_, T> {
        let cols = self.shape.last().copied().unwrap_or(1);
        Matrix::new(&self.data, self.data.len().checked_div(cols).unwrap_or(0), cols)
    }

    /// All elements as a matrix: the last dimension is the columns, the others are the rows.
    pub fn matrix_mut(&mut self) -> MatrixMut<'_, T> {
        let cols = self.shape.last().copied().unwrap_or(1);
        let rows = self.data.len().checked_div(cols).unwrap_or(0);
        MatrixMut::new(&mut self.data, rows, cols)
    }
}

impl<T: Element, const R: usize> Clone for Tensor<T, R> {
    fn clone(&self) -> Self {
        Self { shape: self.shape, data: self.data.clone() }
    }
}
