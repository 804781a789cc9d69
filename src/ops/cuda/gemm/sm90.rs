//! Launcher of the Hopper kernel of `gemm`: tensor maps of both row ranges, a cluster of two blocks
//! for every two tiles below each other.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::MapElement;
use crate::device::Matrix;
use crate::device::Swizzle;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::gemm::Product;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::CHUNK_ROWS;
use crate::ops::cuda::tile::hopper::GEMM;
use crate::ops::cuda::tile::hopper::HopperTile;
use crate::ops::cuda::tile::hopper::SLAB;
use crate::ops::cuda::tile::hopper::Segments;
use crate::ops::cuda::tile::hopper::cluster_launch;
use crate::ops::cuda::tile::hopper::quickest;
use crate::ops::cuda::tile::hopper::weight_maps;
use crate::ops::gemm::Activation;

const OP: &str = "gemm";

kernel_params!(Params, 1152, {
    0 a: [TensorMap; 2],
    256 weight: [TensorMap; 2],
    512 out: [TensorMap; 2],
    768 residual: [TensorMap; 2],
    1024 bias: [u64; 2],
    1040 gate_table: u64,
    1048 step: u64,
    1056 rows: [i32; 2],
    1064 columns: i32,
    1068 k: i32,
    1072 gate_stride: i32,
    1076 gate_column: [i32; 2],
    1084 raster_rows: i32,
    1088 has_residual: i32,
    1092 round_like_diffusers: i32,
    1096 gap_at: i32,
    1100 gap: i32,
    1104 reserved: [i32; 12],
});

/// The tile that is done first, by waves over the card; none where the portable kernel is to run.
fn choose(cuda: &Cuda, product: &Product<'_>) -> Option<&'static HopperTile> {
    let [rows, columns] = product.out.shape();
    // A few rows are bound by reading the weights, for which the portable kernel has more blocks.
    if cuda.tier() != Tier::Sm90 || rows < 128 || columns < 128 {
        return None;
    }
    // What the pass behind it needs.
    let rows_touch = |matrix: Matrix<'_, Act>| matrix.stride() == columns;
    if let Some(pair) = product.difference
        && !pair.into_iter().chain([product.out]).all(rows_touch)
    {
        return None;
    }
    // A slab of columns is one copy.
    if product.weight_columns.gap > 0 && !product.weight_columns.gap_at.is_multiple_of(SLAB) {
        return None;
    }
    let tiles = GEMM.iter().filter(|tile| tile.activations.contains(&product.activation));
    let [_, k] = product.a.shape();
    let segments = [product.split, rows - product.split];
    quickest(cuda, tiles, segments, [columns, k], product.residual.is_some())
}

/// Launches the Hopper kernel where there is one for this product, and says whether it did.
pub(in crate::ops::cuda) fn gemm(cuda: &Arc<Cuda>, product: &Product<'_>) -> Result<bool> {
    let Some(tile) = choose(cuda, product) else { return Ok(false) };
    let [rows, columns] = product.out.shape();
    let k = product.a.shape()[1];
    let segments = Segments { cuda, split: product.split, rows };
    let chunk = [CHUNK_ROWS, tile.chunk_columns];
    let swizzle = tile.chunk_swizzle();
    let out = segments.maps(product.out, chunk, swizzle)?;
    let params = Params {
        a: segments.maps(product.a, [tile.rows, SLAB], Swizzle::Bytes128)?,
        weight: weight_maps(
            cuda,
            MapElement::Bf16,
            product.weight,
            [columns, product.weight_columns.extent(k), product.weight_columns.stride],
            tile.columns,
        )?,
        out,
        residual: match product.residual {
            Some(residual) => segments.maps(residual, chunk, swizzle)?,
            None => out,
        },
        bias: product.bias,
        gate_table: product.gate_table,
        step: product.step,
        rows: segments.lengths(OP)?,
        columns: int(OP, "N", columns)?,
        k: int(OP, "K", k)?,
        gate_stride: product.gate_stride,
        gate_column: product.gate_column,
        raster_rows: tile.raster_rows,
        has_residual: i32::from(product.residual.is_some()),
        round_like_diffusers: cuda.round_like_diffusers(),
        gap_at: int(OP, "K", product.weight_columns.gap_at)?,
        gap: int(OP, "K", product.weight_columns.gap)?,
        reserved: [0; 12],
    };
    let suffix = match product.activation {
        Activation::GeluTanh => "gelu_tanh",
        _ => "none",
    };
    let count = tile.count([product.split, rows - product.split], columns);
    let launch = cluster_launch(cuda, OP, count, tile.smem_bytes)?;
    let work = Work::Flops(2 * rows * columns * k);
    cuda.launch(&format!("{}_{suffix}", tile.kernel), launch.doing(work), &params)?;
    Ok(true)
}
