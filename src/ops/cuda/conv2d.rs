//! Launcher of `conv2d`.

mod sm90;

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Tensor;
use crate::device::Work;
use crate::error::Result;
use crate::ops::conv2d::Conv2d;
use crate::ops::conv2d::Stride;
use crate::ops::cuda::gemm::bf16_weight;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile;
use crate::ops::cuda::tile::Tile;

const OP: &str = "conv2d";

kernel_params!(Params, 88, {
    0 out: u64,
    8 x: u64,
    16 weight: u64,
    24 bias: u64,
    32 residual: u64,
    40 in_height: i32,
    44 in_width: i32,
    48 in_channels: i32,
    52 out_height: i32,
    56 out_width: i32,
    60 out_channels: i32,
    64 kernel: i32,
    68 stride: i32,
    72 padding: i32,
    76 raster_rows: i32,
    80 round_like_diffusers: i32,
    84 reserved: i32,
});

pub(crate) fn conv2d(
    cuda: &Arc<Cuda>,
    out: &Tensor<Act, 3>,
    x: &Tensor<Act, 3>,
    residual: Option<&Tensor<Act, 3>>,
    conv: &Conv2d,
    stride: Stride,
) -> Result<()> {
    let [in_height, in_width, in_channels] = x.shape();
    let [out_height, out_width, out_channels] = out.shape();
    let pixels = out_height * out_width;
    if pixels == 0 {
        return Ok(());
    }
    // Pixels and places in a window are 32-bit numbers.
    int(OP, "pixels", pixels)?;
    int(OP, "window", conv.kernel * conv.kernel * in_channels)?;
    cuda.note_input(OP, x.cuda_address(), [in_height * in_width, in_channels, in_channels])?;
    if sm90::conv2d(cuda, out, x, residual, conv, stride)? {
        return Ok(());
    }
    let scalar = !in_channels.is_multiple_of(8);
    let tiles: &[Tile] =
        if scalar { &[Tile::T64x64] } else { &[Tile::T64x64, Tile::T128x128, Tile::T128x256] };
    let tiling = tile::choose(cuda, [pixels, 0], &[out_channels], tiles);
    let (stride, padding) = match stride {
        Stride::One => (1, conv.kernel / 2),
        Stride::Two => (2, 0),
    };
    let params = Params {
        out: out.cuda_address(),
        x: x.cuda_address(),
        weight: bf16_weight(OP, &conv.weight)?,
        bias: conv.bias.cuda_address(),
        residual: residual.map_or(0, Tensor::cuda_address),
        in_height: int(OP, "height", in_height)?,
        in_width: int(OP, "width", in_width)?,
        in_channels: int(OP, "channels", in_channels)?,
        out_height: int(OP, "height", out_height)?,
        out_width: int(OP, "width", out_width)?,
        out_channels: int(OP, "channels", out_channels)?,
        kernel: int(OP, "kernel", conv.kernel)?,
        stride,
        padding: int(OP, "kernel", padding)?,
        raster_rows: tiling.raster_rows,
        round_like_diffusers: cuda.round_like_diffusers(),
        reserved: 0,
    };
    let entry = format!("conv2d_{}{}", tiling.tile.name(), if scalar { "_scalar" } else { "" });
    let work = Work::Flops(2 * pixels * out_channels * conv.kernel * conv.kernel * in_channels);
    cuda.launch(&entry, tiling.launch(OP)?.doing(work), &params)
}
