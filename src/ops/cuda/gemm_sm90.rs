//! Launcher of the Hopper kernel of `gemm`: tensor maps of both row ranges, a cluster of two blocks
//! for every two tiles below each other.

use std::sync::Arc;

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Launch;
use crate::device::MapLayout;
use crate::device::Matrix;
use crate::device::Swizzle;
use crate::device::TensorMap;
use crate::device::Tier;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::gemm::Product;
use crate::ops::cuda::int;
use crate::ops::cuda::kernel_params;
use crate::ops::gemm::Activation;

const OP: &str = "gemm";
/// Columns of A and W that a copy brings: 128 bytes, as wide as the swizzle.
const SLAB: usize = 64;
/// Rows of `out` and `residual` that a copy moves.
const CHUNK_ROWS: usize = 64;
/// Blocks of a cluster, below each other.
const CLUSTER: usize = 2;

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
pub(super) fn gemm(cuda: &Arc<Cuda>, product: &Product<'_>) -> Result<bool> {
    let Some(tile) = choose(cuda, product) else { return Ok(false) };
    let [rows, columns] = product.out.shape();
    let k = product.a.shape()[1];
    let [tile_rows, tile_columns] = tile.size();
    let sizes = [product.split, rows - product.split];
    let starts = [0, product.split];
    let activations = |matrix: Matrix<'_, Act>, tile, swizzle| -> Result<[TensorMap; 2]> {
        let [mut first, mut second] = [0, 1].map(|index| {
            let part = matrix.rows(starts[index]..starts[index] + sizes[index]);
            (sizes[index] > 0).then(|| map(cuda, part, tile, swizzle))
        });
        // A segment without rows is never read, but its map has to be one.
        let (first, second) = (first.take().transpose()?, second.take().transpose()?);
        let any = first.or(second).unwrap_or(bytemuck::Zeroable::zeroed());
        Ok([first.unwrap_or(any), second.unwrap_or(any)])
    };
    let (chunk_columns, swizzle) = tile.chunk();
    let chunk = [CHUNK_ROWS, chunk_columns];
    let out = activations(product.out, chunk, swizzle)?;
    let weight = |index: usize| -> Result<TensorMap> {
        cuda.tensor_map(&MapLayout {
            address: product.weight[index],
            sizes: [k, columns],
            strides: [1, k],
            // Each block of a cluster brings one half and gives it to both.
            tile: [SLAB, tile_columns / CLUSTER],
            swizzle: Swizzle::Bytes128,
        })
    };
    let params = Params {
        a: activations(product.a, [tile_rows, SLAB], Swizzle::Bytes128)?,
        weight: [weight(0)?, weight(1)?],
        out,
        residual: match product.residual {
            Some(residual) => activations(residual, chunk, swizzle)?,
            None => out,
        },
        bias: product.bias,
        gate_table: product.gate_table,
        step: product.step,
        rows: [int(OP, "M", sizes[0])?, int(OP, "M", sizes[1])?],
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
    let slots = cuda.multiprocessors() / CLUSTER;
    let clusters = tile.count(sizes, columns).min(slots.max(1));
    let launch = Launch {
        grid: [int(OP, "grid", CLUSTER * clusters)?.unsigned_abs(), 1, 1],
        threads: 384,
        smem_bytes: tile.smem_bytes(),
        work: Work::Flops(2 * rows * columns * k),
    };
    cuda.launch(&format!("gemm_sm90_{}_{suffix}", tile.name()), launch, &params)?;
    Ok(true)
}

/// A map of a matrix whose copies have so many rows and columns.
fn map(
    cuda: &Cuda,
    matrix: Matrix<'_, Act>,
    [rows, columns]: [usize; 2],
    swizzle: Swizzle,
) -> Result<TensorMap> {
    let [height, width] = matrix.shape();
    cuda.tensor_map(&MapLayout {
        address: matrix.cuda_address(),
        sizes: [width, height],
        strides: [1, matrix.stride()],
        tile: [columns, rows],
        swizzle,
    })
}
