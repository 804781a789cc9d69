//! The sinusoid of a time or guidance value: `[cos(t f_0 .. t f_127), sin(t f_0 .. t f_127)]` with
//! `f_i = exp(-ln(10000) i / 128)`.
//!
//! Spec flux 3.3 step 3; f32 throughout, as PyTorch computes it.

use crate::device::Act;
use crate::device::Device;
use crate::device::MatrixMut;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect;
use crate::ops::expect_shape;

const OP: &str = "timestep_embedding";

/// `out [N, 2 F]` from `values [N]`, already multiplied by 1000.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn timestep_embedding(mut out: MatrixMut<'_, Act>, values: &Tensor<f32, 1>) -> Result<()> {
    let [rows, width] = out.shape();
    expect_shape(OP, "values", values.shape(), [rows])?;
    expect(OP, "out", width.is_multiple_of(2), || ("an even width".into(), width.to_string()))?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::timestep_embedding::timestep_embedding(&cuda, &out, values);
    }
    cpu::timestep_embedding::timestep_embedding(&mut out, values.host());
    Ok(())
}
