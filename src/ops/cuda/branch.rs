//! Launcher of `branch`: the kernel that sets the handle, the node behind it, its two bodies.

use std::sync::Arc;

use crate::device::Cuda;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cpu;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;

const OP: &str = "branch";

kernel_params!(Params, 16, {
    0 handle: u64,
    8 decision: u64,
});

pub(crate) fn branch<S: ?Sized>(
    cuda: &Arc<Cuda>,
    decision: &Tensor<u32, 1>,
    state: &mut S,
    hit: impl FnOnce(&mut S) -> Result<()>,
    compute: impl FnOnce(&mut S) -> Result<()>,
) -> Result<()> {
    let Some(conditional) = cuda.conditional()? else {
        return cpu::branch::branch(decision.to_host()?.host(), state, hit, compute);
    };
    let params = Params { handle: conditional.handle(), decision: decision.cuda_address() };
    cuda.launch(OP, linear_grid(1, 1), &params)?;
    let [on_hit, on_compute] = conditional.add_node()?;
    on_hit.record(|| hit(state))?;
    on_compute.record(|| compute(state))
}
