//! The decoder's picture to bytes: `round(255 clamp(x / 2 + 1/2, 0, 1))`, ties to even.
//!
//! image `[H, W, 3]` in [-1, 1], channels last; out `[H, W, 3]`. NaN becomes 0.
//! Source: `VaeImageProcessor.postprocess` of diffusers 0.42. Oracle: `cpu/to_rgb8.rs`.

use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "to_rgb8";

/// Where the scaling to [0, 1] rounds; the product with 255 is f32 in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PixelRounding {
    /// f32.
    F32,
    /// As diffusers with a bf16 decoder: `x`, `x / 2` and the sum are each rounded to bf16.
    DiffusersBf16,
}

/// `out [H, W, 3]` from `image [H, W, 3]`; `not_finite [1]` becomes 1 if a value is NaN or infinite,
/// else it stays.
///
/// # Errors
/// [`crate::Error::Shape`] if the last dimension is not 3 or the shapes differ.
pub fn to_rgb8(
    out: &mut Tensor<u8, 3>,
    not_finite: &mut Tensor<u32, 1>,
    image: &Tensor<Act, 3>,
    rounding: PixelRounding,
) -> Result<()> {
    let [height, width, _] = image.shape();
    expect_shape(OP, "image", image.shape(), [height, width, 3])?;
    expect_shape(OP, "out", out.shape(), image.shape())?;
    expect_shape(OP, "not_finite", not_finite.shape(), [1])?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::to_rgb8::to_rgb8(&cuda, out, not_finite, image, rounding);
    }
    if !image.host().iter().all(|value| value.is_finite()) {
        not_finite.host_mut()[0] = 1;
    }
    cpu::to_rgb8::to_rgb8(out.host_mut(), image.host(), rounding);
    Ok(())
}
