//! Launcher of `to_rgb8`: eight elements a thread.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::elementwise_grid;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::to_rgb8::PixelRounding;

const OP: &str = "to_rgb8";

kernel_params!(Params, 32, {
    0 out: u64,
    8 image: u64,
    16 not_finite: u64,
    24 count: i32,
    28 round_like_diffusers: i32,
});

pub(crate) fn to_rgb8(
    cuda: &Arc<Cuda>,
    out: &Tensor<u8, 3>,
    not_finite: &Tensor<u32, 1>,
    image: &Tensor<Act, 3>,
    rounding: PixelRounding,
) -> Result<()> {
    let count = image.shape().iter().product();
    if count == 0 {
        return Ok(());
    }
    let params = Params {
        out: out.cuda_address(),
        image: image.cuda_address(),
        not_finite: not_finite.cuda_address(),
        count: int(OP, "image", count)?,
        round_like_diffusers: i32::from(rounding == PixelRounding::DiffusersBf16),
    };
    let work = Work::Bytes(3 * count);
    cuda.launch(OP, elementwise_grid(OP, count)?.doing(work), &params)
}
