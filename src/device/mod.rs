//! Where tensors live and what holds them.
//!
//! [`tensor`] is the typed tensor, [`matrix`] the strided two-dimensional view that ops take,
//! [`host_gemm`] the one place that calls the CPU matrix product.

pub mod host_gemm;
pub mod matrix;
pub mod tensor;

pub use matrix::Matrix;
pub use matrix::MatrixMut;
pub use tensor::Act;
pub use tensor::Element;
pub use tensor::Tensor;
