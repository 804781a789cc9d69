//! Convolutions, channels last.

use crate::device::Tensor;

/// A convolution's parameters.
#[derive(Debug)]
pub struct Conv2d {
    /// `[C_out, kernel_h, kernel_w, C_in]`: the checkpoint's `[C_out, C_in, kh, kw]`, channels last.
    pub weight: Tensor<f32, 4>,
    /// `[C_out]`.
    pub bias: Tensor<f32, 1>,
}
