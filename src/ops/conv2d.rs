//! Convolutions over channels-last images: `out = residual + conv(x) + bias`.
//!
//! Spec flux 7.1 (stride 1, zero padding on all sides) and 7.4 (stride 2, padded right and bottom).

use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect;
use crate::ops::expect_shape;
use crate::ops::gemm::Weight;

const OP: &str = "conv2d";

/// A convolution's parameters.
#[derive(Debug)]
pub struct Conv2d {
    /// `[C_out, kernel * kernel * C_in]`: the checkpoint's `[C_out, C_in, kh, kw]`, channels last.
    pub weight: Weight,
    /// Height and width of the window, odd.
    pub kernel: usize,
    /// `[C_out]`.
    pub bias: Tensor<f32, 1>,
}

/// How the kernel moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stride {
    /// Stride 1, output as large as the input: `kernel / 2` zeros on every side.
    One,
    /// Stride 2 with one row of zeros below and one column to the right: the encoder's downsampling.
    Two,
}

impl Stride {
    /// The output's height or width for an input's.
    #[must_use]
    pub fn output_size(self, input: usize) -> usize {
        match self {
            Self::One => input,
            Self::Two => input / 2,
        }
    }
}

/// `out [H', W', C_out]` from `x [H, W, C_in]` and, when given, `residual [H', W', C_out]`.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn conv2d(
    out: &mut Tensor<Act, 3>,
    x: &Tensor<Act, 3>,
    residual: Option<&Tensor<Act, 3>>,
    conv: &Conv2d,
    stride: Stride,
) -> Result<()> {
    let [height, width, in_channels] = x.shape();
    let [out_channels, _] = conv.weight.shape();
    let out_shape = [stride.output_size(height), stride.output_size(width), out_channels];
    expect(
        OP,
        "kernel",
        conv.kernel % 2 == 1 && (stride == Stride::One || conv.kernel == 3),
        || ("an odd size, 3 with stride 2".into(), conv.kernel.to_string()),
    )?;
    let patch = conv.kernel * conv.kernel * in_channels;
    expect_shape(OP, "weight", conv.weight.shape(), [out_channels, patch])?;
    expect_shape(OP, "bias", conv.bias.shape(), [out_channels])?;
    expect_shape(OP, "out", out.shape(), out_shape)?;
    if let Some(residual) = residual {
        expect_shape(OP, "residual", residual.shape(), out_shape)?;
    }
    if let Device::Cuda(cuda) = out.device() {
        return cuda::conv2d::conv2d(&cuda, out, x, residual, conv, stride);
    }
    cpu::conv2d::conv2d(out, x, residual, conv, stride);
    Ok(())
}
