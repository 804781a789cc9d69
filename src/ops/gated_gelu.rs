//! `out = GELU_tanh(gated) * linear`, the two halves of T5's MLP hidden layer, spec flux 6.2.

use crate::device::Act;
use crate::device::Device;
use crate::device::Matrix;
use crate::device::MatrixMut;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "gated_gelu";

/// `out [S, F]` from `hidden [S, 2 F]`: the activated half first.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn gated_gelu(mut out: MatrixMut<'_, Act>, hidden: Matrix<'_, Act>) -> Result<()> {
    let [seq, width] = out.shape();
    expect_shape(OP, "hidden", hidden.shape(), [seq, 2 * width])?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::gated_gelu::gated_gelu(&cuda, &out, hidden);
    }
    cpu::gated_gelu::gated_gelu(&mut out, hidden);
    Ok(())
}
