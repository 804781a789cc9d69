//! Launcher of the Hopper kernel of `gemm`: tensor maps of both row ranges, a cluster of two blocks
//! for every two tiles below each other.

use std::sync::Arc;

use crate::device::Cuda;
use crate::device::Swizzle;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::gemm::Product;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::cuda::tile::hopper::CHUNK_ROWS;
use crate::ops::cuda::tile::hopper::CLUSTER;
use crate::ops::cuda::tile::hopper::SLAB;
use crate::ops::cuda::tile::hopper::Segments;
use crate::ops::cuda::tile::hopper::cluster_launch;
use crate::ops::cuda::tile::hopper::weight_maps;
use crate::ops::gemm::Activation;

const OP: &str = "gemm";
/// Rows x columns of the output that a block computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tile {
    T128x256,
    T256x144,
    T128x192,
}

impl Tile {
    fn name(self) -> &'static str {
        match self {
            Self::T128x256 => "128x256",
            Self::T256x144 => "256x144",
            Self::T128x192 => "128x192",
        }
    }

    fn size(self) -> [usize; 2] {
        match self {
            Self::T128x256 => [128, 256],
            Self::T256x144 => [256, 144],
            Self::T128x192 => [128, 192],
        }
    }

    fn smem_bytes(self) -> u32 {
        match self {
            Self::T128x256 => 231_584,
            Self::T256x144 => 230_688,
            Self::T128x192 => 216_272,
        }
    }

    /// Columns of `out` and `residual` that a copy moves, and how they lie in shared memory.
    fn chunk(self) -> (usize, Swizzle) {
        match self {
            Self::T128x256 | Self::T128x192 => (64, Swizzle::Bytes128),
            Self::T256x144 => (48, Swizzle::None),
        }
    }

    /// Cluster tiles that share a sweep over the columns: their operands stay in L2. The best of
    /// those tried at FLUX's shapes.
    fn raster_rows(self) -> i32 {
        match self {
            Self::T128x256 => 12,
            Self::T256x144 | Self::T128x192 => 9,
        }
    }

    /// Those that suit an activation. GELU takes as long as a sixth of a tile of K 3072: there the
    /// consumers of 128x192 take turns, and one finishes its tile while the other multiplies.
    fn suiting(activation: Activation) -> &'static [Self] {
        match activation {
            Activation::None => &[Self::T128x256, Self::T256x144, Self::T128x192],
            Activation::GeluTanh => &[Self::T128x192],
            Activation::Silu | Activation::QuickGelu => &[],
        }
    }

    /// Cluster tiles that cover the rows of each segment and the columns.
    fn count(self, segments: [usize; 2], columns: usize) -> usize {
        let [tile_rows, tile_columns] = self.size();
        let rows: usize = segments.iter().map(|rows| rows.div_ceil(CLUSTER * tile_rows)).sum();
        rows * columns.div_ceil(tile_columns)
    }
}

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
    1096 reserved: [i32; 14],
});

/// The tile that is done first, by waves over the card; none where the portable kernel is to run.
fn choose(cuda: &Cuda, product: &Product<'_>) -> Option<Tile> {
    let [rows, columns] = product.out.shape();
    // A few rows are bound by reading the weights, for which the portable kernel has more blocks.
    if cuda.tier() != Tier::Sm90 || product.difference.is_some() || rows < 128 || columns < 128 {
        return None;
    }
    let segments = [product.split, rows - product.split];
    let slots = (cuda.multiprocessors() / CLUSTER).max(1);
    let cost = |tile: &Tile| {
        let [tile_rows, tile_columns] = tile.size();
        tile.count(segments, columns).div_ceil(slots) * tile_rows * tile_columns
    };
    Tile::suiting(product.activation).iter().copied().min_by_key(cost)
}

/// Launches the Hopper kernel where there is one for this product, and says whether it did.
pub(in crate::ops::cuda) fn gemm(cuda: &Arc<Cuda>, product: &Product<'_>) -> Result<bool> {
    let Some(tile) = choose(cuda, product) else { return Ok(false) };
    let [rows, columns] = product.out.shape();
    let k = product.a.shape()[1];
    let [tile_rows, tile_columns] = tile.size();
    let segments = Segments { cuda, split: product.split, rows };
    let (chunk_columns, swizzle) = tile.chunk();
    let chunk = [CHUNK_ROWS, chunk_columns];
    let out = segments.maps(product.out, chunk, swizzle)?;
    let params = Params {
        a: segments.maps(product.a, [tile_rows, SLAB], Swizzle::Bytes128)?,
        weight: weight_maps(cuda, product.weight, [columns, k], tile_columns)?,
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
        raster_rows: tile.raster_rows(),
        has_residual: i32::from(product.residual.is_some()),
        round_like_diffusers: cuda.round_like_diffusers(),
        reserved: [0; 14],
    };
    let suffix = match product.activation {
        Activation::GeluTanh => "gelu_tanh",
        _ => "none",
    };
    let count = tile.count([product.split, rows - product.split], columns);
    let launch = cluster_launch(cuda, OP, count, tile.smem_bytes())?;
    let work = Work::Flops(2 * rows * columns * k);
    cuda.launch(&format!("gemm_sm90_{}_{suffix}", tile.name()), launch.doing(work), &params)?;
    Ok(true)
}
