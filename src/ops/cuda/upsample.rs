//! Launcher of `upsample`: blocks of 2,048 elements of an image row.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::row_grid;

const OP: &str = "upsample";

kernel_params!(Params, 32, {
    0 out: u64,
    8 x: u64,
    16 height: i32,
    20 width: i32,
    24 channels: i32,
    28 reserved: i32,
});

pub(crate) fn upsample(cuda: &Arc<Cuda>, out: &Tensor<Act, 3>, x: &Tensor<Act, 3>) -> Result<()> {
    let [height, width, channels] = x.shape();
    if height == 0 || width == 0 || channels == 0 {
        return Ok(());
    }
    // Places in a row of `out` are 32-bit numbers.
    int(OP, "2 W C", 2 * width * channels)?;
    let params = Params {
        out: out.cuda_address(),
        x: x.cuda_address(),
        height: int(OP, "H", height)?,
        width: int(OP, "W", width)?,
        channels: int(OP, "C", channels)?,
        reserved: 0,
    };
    let work = Work::Bytes(10 * height * width * channels);
    cuda.launch(
        OP,
        row_grid(OP, "H", blocks(OP, width * channels, 2048)?, height, 256)?.doing(work),
        &params,
    )
}
