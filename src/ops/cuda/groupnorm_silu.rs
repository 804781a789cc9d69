//! Launcher of `groupnorm_silu`: sums of blocks of pixels, their total, then the pixels again.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::linear_grid;
use crate::ops::expect;
use crate::ops::gemm::Activation;
use crate::ops::groupnorm_silu::EPS;
use crate::ops::groupnorm_silu::GroupNorm;

const OP: &str = "groupnorm_silu";
const THREADS: usize = 256;

#[expect(clippy::cast_possible_truncation, reason = "kernels take eps as f32")]
const EPS_F32: f32 = EPS as f32;

kernel_params!(Params, 80, {
    0 out: u64,
    8 x: u64,
    16 weight: u64,
    24 bias: u64,
    32 partial: u64,
    40 affine: u64,
    48 pixels: i32,
    52 channels: i32,
    56 groups: i32,
    60 pixels_per_block: i32,
    64 eps: f32,
    68 silu: i32,
    72 round_like_diffusers: i32,
    76 reserved: i32,
});

pub(crate) fn groupnorm_silu(
    cuda: &Arc<Cuda>,
    out: &Tensor<Act, 3>,
    x: &Tensor<Act, 3>,
    norm: GroupNorm<'_>,
    activation: Activation,
) -> Result<()> {
    let [height, width, channels] = x.shape();
    let pixels = height * width;
    if pixels == 0 || channels == 0 {
        return Ok(());
    }
    let eights = channels.is_multiple_of(8);
    expect(OP, "channels", channels <= if eights { 1024 } else { THREADS }, || {
        ("a multiple of 8 up to 1,024, or at most 256".into(), channels.to_string())
    })?;
    expect(OP, "groups", norm.groups <= THREADS, || {
        ("at most 256".into(), norm.groups.to_string())
    })?;
    expect(OP, "activation", matches!(activation, Activation::None | Activation::Silu), || {
        ("none or SiLU".into(), format!("{activation:?}"))
    })?;
    let pixels_per_block = pixels_per_block(pixels, if eights { channels / 8 } else { channels });
    let count = blocks(OP, pixels, pixels_per_block)?;
    // Scratch of these launches: what is given back here goes to kernels behind them.
    let device = &out.device();
    // Two f64 a block and group.
    let partial =
        Tensor::<f32, 3>::empty(device, [pixels.div_ceil(pixels_per_block), norm.groups, 4])?;
    let affine = Tensor::<f32, 2>::empty(device, [2, channels])?;
    let params = Params {
        out: out.cuda_address(),
        x: x.cuda_address(),
        weight: norm.weight.cuda_address(),
        bias: norm.bias.cuda_address(),
        partial: partial.cuda_address(),
        affine: affine.cuda_address(),
        pixels: int(OP, "H W", pixels)?,
        channels: int(OP, "C", channels)?,
        groups: int(OP, "groups", norm.groups)?,
        pixels_per_block: int(OP, "H W", pixels_per_block)?,
        eps: EPS_F32,
        silu: i32::from(activation == Activation::Silu),
        round_like_diffusers: cuda.round_like_diffusers(),
        reserved: 0,
    };
    cuda.launch(
        "groupnorm_silu_partial",
        linear_grid(count, 256).doing(Work::Bytes(2 * pixels * channels)),
        &params,
    )?;
    let groups = blocks(OP, norm.groups, 1)?;
    cuda.launch("groupnorm_silu_combine", linear_grid(groups, 256), &params)?;
    cuda.launch(
        "groupnorm_silu_apply",
        linear_grid(count, 256).doing(Work::Bytes(4 * pixels * channels)),
        &params,
    )
}

/// Pixels of a block whose threads handle one each of a pixel's `slots`: eight for each thread, or more where there would be over 2,048 blocks. It follows from the shape alone, since
/// the last bits of the sums depend on it.
fn pixels_per_block(pixels: usize, slots: usize) -> usize {
    (8 * (THREADS / slots)).max(pixels.div_ceil(2048))
}
