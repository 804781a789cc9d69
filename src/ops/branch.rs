//! Control flow that depends on data: `hit` where the decision is not 0, else `compute`.
//!
//! decision `[1]`, on the device: in a recorded graph the GPU decides anew at every launch, and the
//! host never learns which way it went. The step cache's need: design.md 2. Oracle: `cpu/branch.rs`.

use crate::device::Device;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda;
use crate::ops::expect_shape;

const OP: &str = "branch";

/// Runs `hit` where `decision [1]` is not 0, else `compute`, each on `state`.
///
/// While a graph is recorded on CUDA ([`crate::device::Graph::record`]) both are called, `hit` first,
/// each to record a body; a launch then runs one of the two. So both must leave the host's side of
/// `state`, such as which of two tensors is the newer, as they found it: whatever they change there
/// is so for the other body and for all that comes behind, whichever body the GPU picks. (Swap
/// references in a body, not the tensors, and let both write the same tensor in the end.) A body may
/// not upload, download or wait, and may not branch itself.
///
/// On CUDA outside of a recording this waits for the GPU, reads the decision and calls one of the
/// two: for profiles, where each launch is timed.
///
/// # Errors
/// [`crate::Error::Shape`] if `decision` is not one number; what `hit` and `compute` return; on CUDA
/// [`crate::Error::Cuda`], also for a branch inside a branch that is being recorded.
pub fn branch<S: ?Sized>(
    decision: &Tensor<u32, 1>,
    state: &mut S,
    hit: impl FnOnce(&mut S) -> Result<()>,
    compute: impl FnOnce(&mut S) -> Result<()>,
) -> Result<()> {
    expect_shape(OP, "decision", decision.shape(), [1])?;
    if let Device::Cuda(cuda) = decision.device() {
        return cuda::branch::branch(&cuda, decision, state, hit, compute);
    }
    cpu::branch::branch(decision.host(), state, hit, compute)
}
