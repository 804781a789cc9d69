//! Linear layers.

use half::bf16;

use crate::device::Tensor;

/// A weight matrix in the precision it is kept in.
#[derive(Debug)]
pub enum Weight {
    /// f32.
    F32(Tensor<f32, 2>),
    /// bf16, widened to f32 where it is multiplied.
    Bf16(Tensor<bf16, 2>),
}

/// A linear layer: `y = x W^T + b`.
#[derive(Debug)]
pub struct Linear {
    /// `[N, K]`.
    pub weight: Weight,
    /// `[N]`.
    pub bias: Option<Tensor<f32, 1>>,
}

impl Weight {
    /// `[N, K]`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match self {
            Self::F32(tensor) => tensor.shape(),
            Self::Bf16(tensor) => tensor.shape(),
        }
    }
}
