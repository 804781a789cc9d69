//! GroupNorm over channels-last images, with SiLU behind it where the VAE has one.
//!
//! Spec flux 7.1: statistics over all pixels and the channels of a group.

use crate::device::Act;
use crate::device::Device;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect;
use crate::ops::expect_shape;
use crate::ops::gemm::Activation;

const OP: &str = "groupnorm_silu";

/// eps of every GroupNorm in the VAE.
pub const EPS: f64 = 1e-6;

/// An affine GroupNorm's parameters.
#[derive(Debug, Clone, Copy)]
pub struct GroupNorm<'a> {
    /// `[C]`.
    pub weight: &'a Tensor<f32, 1>,
    /// `[C]`.
    pub bias: &'a Tensor<f32, 1>,
    /// Divides C.
    pub groups: usize,
}

/// `out [H, W, C] = activation(GroupNorm(x [H, W, C]))`.
///
/// # Errors
/// [`crate::Error::Shape`] when the operands do not fit together.
pub fn groupnorm_silu(
    out: &mut Tensor<Act, 3>,
    x: &Tensor<Act, 3>,
    norm: GroupNorm<'_>,
    activation: Activation,
) -> Result<()> {
    let [height, width, channels] = x.shape();
    expect_shape(OP, "out", out.shape(), [height, width, channels])?;
    expect_shape(OP, "weight", norm.weight.shape(), [channels])?;
    expect_shape(OP, "bias", norm.bias.shape(), [channels])?;
    expect(OP, "groups", norm.groups > 0 && channels.is_multiple_of(norm.groups), || {
        (format!("a divisor of {channels} channels"), norm.groups.to_string())
    })?;
    if let Device::Cuda(cuda) = out.device() {
        return cuda::groupnorm_silu::groupnorm_silu(&cuda, out, x, norm, activation);
    }
    cpu::groupnorm_silu::groupnorm_silu(&mut out.matrix_mut(), x.matrix(), norm, activation);
    Ok(())
}
