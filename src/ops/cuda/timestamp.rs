//! Launcher of `timestamp`: one thread.

use std::sync::Arc;

use crate::device::Cuda;
use crate::device::Tensor;
use crate::error::Result;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;
use crate::ops::timestamp::Edge;

const OP: &str = "timestamp";

kernel_params!(Params, 24, {
    0 stamps: u64,
    8 step: u64,
    16 steps: i32,
    20 end: i32,
});

pub(crate) fn timestamp(
    cuda: &Arc<Cuda>,
    stamps: &Tensor<u32, 2>,
    step: &Tensor<u32, 1>,
    edge: Edge,
) -> Result<()> {
    let [steps, _] = stamps.shape();
    let params = Params {
        stamps: stamps.cuda_address(),
        step: step.cuda_address(),
        steps: int(OP, "stamps", steps)?,
        end: i32::from(edge == Edge::End),
    };
    cuda.launch(OP, linear_grid(1, 1), &params)
}
