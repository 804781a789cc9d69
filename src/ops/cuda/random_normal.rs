//! Launcher of `random_normal`.

use std::sync::Arc;

use half::bf16;

use crate::device::Cuda;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::elementwise_grid;
use crate::ops::cuda::kernel_params;
use crate::ops::random_normal::RandomStream;

const OP: &str = "random_normal";

kernel_params!(Params, 32, {
    0 out: u64,
    8 count: i64,
    16 seed_low: u32,
    20 seed_high: u32,
    24 stream: u32,
    28 std: f32,
});

pub(crate) fn random_normal(
    cuda: &Arc<Cuda>,
    out: &Tensor<bf16, 2>,
    std: f32,
    random: RandomStream,
) -> Result<()> {
    let count: usize = out.shape().iter().product();
    if count == 0 {
        return Ok(());
    }
    let params = Params {
        out: out.cuda_address(),
        count: i64::try_from(count).unwrap_or(i64::MAX),
        seed_low: (random.seed & 0xffff_ffff) as u32,
        seed_high: (random.seed >> 32) as u32,
        stream: random.stream,
        std,
    };
    let work = Work::Bytes(2 * count);
    cuda.launch(OP, elementwise_grid(OP, count)?.doing(work), &params)
}
