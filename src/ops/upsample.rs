//! Nearest upsampling by two: `out[y, x] = in[y / 2, x / 2]`, spec flux 7.1.

use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "upsample";

/// `out [2 H, 2 W, C]` from `x [H, W, C]`.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn upsample(out: &mut Tensor<Act, 3>, x: &Tensor<Act, 3>) -> Result<()> {
    let [height, width, channels] = x.shape();
    expect_shape(OP, "out", out.shape(), [2 * height, 2 * width, channels])?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::upsample::upsample(&cuda, out, x);
    }
    cpu::upsample::upsample(out, x);
    Ok(())
}
