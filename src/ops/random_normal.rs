//! `out [n] = std * N(0, 1)` in bf16: the weights of synthetic models, made where they are used.
//!
//! Philox 4x32-10: elements `8 i` to `8 i + 7` are made of counter `(i, stream)` under the seed, two of
//! each word: its upper half gives the radius, its lower half the angle, as fine as bf16 shows.

use half::bf16;

use crate::device::Device;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;

/// Which numbers: tensors of one model share the seed and differ in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RandomStream {
    /// Of the model.
    pub seed: u64,
    /// Of the tensor.
    pub stream: u32,
}

/// Fills `out [N, K]`, row-major.
///
/// # Errors
/// [`crate::Error::Cuda`].
pub fn random_normal(out: &mut Tensor<bf16, 2>, std: f32, random: RandomStream) -> Result<()> {
    if let Device::Cuda(cuda) = out.device() {
        return cuda::random_normal::random_normal(&cuda, out, std, random);
    }
    cpu::random_normal::random_normal(out.host_mut(), std, random);
    Ok(())
}
