//! Launcher of the Hopper kernel of `conv2d`: maps of the images as they are, one tile a patch of pixels.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::MapElement;
use crate::device::MapLayout;
use crate::device::Swizzle;
use crate::device::Tensor;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::error::Result;
use crate::ops::conv2d::Conv2d;
use crate::ops::conv2d::Stride;
use crate::ops::cuda::gemm::bf16_weight;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::CHUNK_ROWS;
use crate::ops::cuda::tile::hopper::CONV2D;
use crate::ops::cuda::tile::hopper::HopperTile;
use crate::ops::cuda::tile::hopper::SLAB;
use crate::ops::cuda::tile::hopper::cluster_launch;
use crate::ops::cuda::tile::hopper::weight_maps;

const OP: &str = "conv2d";
/// Pixels of a patch beside each other.
const PATCH_WIDTH: usize = 16;

kernel_params!(Params, 1088, {
    0 a: [TensorMap; 2],
    256 weight: [TensorMap; 2],
    512 out: [TensorMap; 2],
    768 residual: [TensorMap; 2],
    1024 bias: u64,
    1032 rows: [i32; 2],
    1040 columns: i32,
    1044 k: i32,
    1048 raster_rows: i32,
    1052 channels: i32,
    1056 kernel: i32,
    1060 patches_x: i32,
    1064 has_residual: i32,
    1068 reserved: [i32; 5],
});

/// The tile, none where the portable kernel is to run: for few channels, whole slabs of which do not
/// lie under one tap, for stride 2, and for diffusers' roundings.
fn choose(
    cuda: &Cuda,
    conv: &Conv2d,
    shape: [usize; 2],
    stride: Stride,
) -> Option<&'static HopperTile> {
    let [in_channels, out_channels] = shape;
    let suits = in_channels.is_multiple_of(SLAB)
        && out_channels.is_multiple_of(8)
        && out_channels >= 128
        && conv.kernel <= 3
        && stride == Stride::One
        && cuda.tier() == Tier::Sm90
        && cuda.round_like_diffusers() == 0;
    let [wide, narrow] = &CONV2D;
    suits.then_some(if out_channels > narrow.columns { wide } else { narrow })
}

/// Launches the Hopper kernel where it suits, and says whether it did.
pub(super) fn conv2d(
    cuda: &Arc<Cuda>,
    out: &Tensor<Act, 3>,
    x: &Tensor<Act, 3>,
    residual: Option<&Tensor<Act, 3>>,
    conv: &Conv2d,
    stride: Stride,
) -> Result<bool> {
    let [height, width, in_channels] = x.shape();
    let [_, _, out_channels] = out.shape();
    let Some(tile) = choose(cuda, conv, [in_channels, out_channels], stride) else {
        return Ok(false);
    };
    let patches_x = width.div_ceil(PATCH_WIDTH);
    let rows = patches_x * height.div_ceil(tile.rows / PATCH_WIDTH) * tile.rows;
    let k = conv.kernel * conv.kernel * in_channels;
    let patch = |rows: usize| [rows / PATCH_WIDTH, PATCH_WIDTH];
    let image = |image: &Tensor<Act, 3>, rows: usize| -> Result<[TensorMap; 2]> {
        let [height, width, channels] = image.shape();
        let [tile_height, tile_width] = patch(rows);
        let map = cuda.tensor_map(&MapLayout {
            element: MapElement::Bf16,
            address: image.cuda_address(),
            sizes: [channels, width, height],
            strides: [1, channels, width * channels],
            tile: [SLAB, tile_width, tile_height],
            swizzle: Swizzle::Bytes128,
        })?;
        Ok([map, map])
    };
    let out_maps = image(out, CHUNK_ROWS)?;
    let params = Params {
        a: image(x, tile.rows)?,
        weight: weight_maps(
            cuda,
            MapElement::Bf16,
            [bf16_weight(OP, &conv.weight)?; 2],
            [out_channels, k, k],
            tile.columns,
        )?,
        out: out_maps,
        residual: residual.map_or(Ok(out_maps), |residual| image(residual, CHUNK_ROWS))?,
        bias: conv.bias.cuda_address(),
        rows: [int(OP, "pixels", rows)?, 0],
        columns: int(OP, "channels", out_channels)?,
        k: int(OP, "window", k)?,
        raster_rows: tile.raster_rows,
        channels: int(OP, "channels", in_channels)?,
        kernel: int(OP, "kernel", conv.kernel)?,
        patches_x: int(OP, "pixels", patches_x)?,
        has_residual: i32::from(residual.is_some()),
        reserved: [0; 5],
    };
    let launch = cluster_launch(cuda, OP, tile.count([rows, 0], out_channels), tile.smem_bytes)?;
    let work = Work::Flops(2 * height * width * out_channels * k);
    cuda.launch(tile.kernel, launch.doing(work), &params)?;
    Ok(true)
}
