//! What launchers of Hopper's matrix kernels share: tensor maps of their operands, and the grid.

pub(in crate::ops::cuda) mod fp8;

use crate::device::Cuda;
use crate::device::Launch;
use crate::device::MapElement;
use crate::device::MapLayout;
use crate::device::Mapped;
use crate::device::Matrix;
use crate::device::Swizzle;
use crate::device::TensorMap;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::int;
use crate::ops::cuda::tile::hopper::fp8::FP8_ATTENTION;
use crate::ops::cuda::tile::hopper::fp8::FP8_GELU;
use crate::ops::cuda::tile::hopper::fp8::FP8_QKV;
use crate::ops::cuda::tile::hopper::fp8::FP8_ROW;
use crate::ops::gemm::Activation;

/// Bytes of a row of A and W that a copy brings: as wide as the swizzle.
pub(in crate::ops::cuda) const SLAB_BYTES: usize = 128;
/// Columns of A and W in bf16 that a copy brings.
pub(in crate::ops::cuda) const SLAB: usize = SLAB_BYTES / 2;
/// Rows of `out` and `residual` that a copy moves.
pub(in crate::ops::cuda) const CHUNK_ROWS: usize = 64;
/// Columns of a head in the kernels that know heads.
pub(in crate::ops::cuda) const HEAD: usize = 128;
/// Blocks of a cluster, below each other.
pub(in crate::ops::cuda) const CLUSTER: usize = 2;

/// How a Hopper kernel cuts a product, and why: the tuning table of the sm90 tier, from measurements on
/// an H100 beside cuBLASLt at FLUX's shapes.
#[derive(Debug)]
pub(in crate::ops::cuda) struct HopperTile {
    /// The entry, or what it begins with.
    pub(in crate::ops::cuda) kernel: &'static str,
    /// Rows of the output that a block computes.
    pub(in crate::ops::cuda) rows: usize,
    /// Columns.
    pub(in crate::ops::cuda) columns: usize,
    /// Slabs of K under way.
    stages: usize,
    pub(in crate::ops::cuda) smem_bytes: u32,
    /// Columns of the output and the residual that a copy moves.
    pub(in crate::ops::cuda) chunk_columns: usize,
    /// Cluster tiles that share a sweep over the columns: their operands stay in L2.
    pub(in crate::ops::cuda) raster_rows: i32,
    pub(in crate::ops::cuda) activations: &'static [Activation],
    /// What finishing a tile costs, in columns of K; and with a residual. Zeros where waves decide.
    finishing: [usize; 2],
    reason: &'static str,
}

/// Of `gemm`: the tile that covers the output in the shortest time of whole waves is taken.
pub(in crate::ops::cuda) const GEMM: [HopperTile; 4] = [
    HopperTile {
        kernel: "gemm_sm90_128x256",
        rows: 128,
        columns: 256,
        stages: 4,
        smem_bytes: 231_584,
        chunk_columns: 64,
        raster_rows: 12,
        activations: &[Activation::None],
        finishing: [0, 0],
        reason: "least bytes a product; the main loop takes 49,200 clocks of 49,152 needed",
    },
    HopperTile {
        kernel: "gemm_sm90_256x144",
        rows: 256,
        columns: 144,
        stages: 4,
        smem_bytes: 230_688,
        chunk_columns: 48,
        raster_rows: 9,
        activations: &[Activation::None],
        finishing: [0, 0],
        reason: "covers 4608 x 3072 in exactly three waves of 132 blocks",
    },
    HopperTile {
        kernel: "gemm_sm90_128x192",
        rows: 128,
        columns: 192,
        stages: 4,
        smem_bytes: 216_272,
        chunk_columns: 64,
        raster_rows: 9,
        activations: &[Activation::None, Activation::GeluTanh],
        finishing: [0, 0],
        reason: "its consumers take turns: one finishes, GELU included, while the other multiplies",
    },
    HopperTile {
        kernel: "gemm_sm90_128x128",
        rows: 128,
        columns: 128,
        stages: 6,
        smem_bytes: 230_592,
        chunk_columns: 64,
        raster_rows: 12,
        activations: &[Activation::None],
        finishing: [0, 0],
        reason: "fills the card where 512 rows, T5's, leave larger tiles a part of their last wave",
    },
];

/// Of `conv2d`: the first for more channels than the second has columns.
pub(in crate::ops::cuda) const CONV2D: [HopperTile; 2] = [
    HopperTile {
        kernel: "conv2d_sm90_128x256",
        rows: 128,
        columns: 256,
        stages: 4,
        smem_bytes: 231_584,
        chunk_columns: 64,
        raster_rows: 8,
        activations: &[Activation::None],
        finishing: [0, 0],
        reason: "as for matrices; a patch of 16 x 8 pixels",
    },
    HopperTile {
        kernel: "conv2d_sm90_256x128",
        rows: 256,
        columns: 128,
        stages: 4,
        smem_bytes: 230_560,
        chunk_columns: 64,
        raster_rows: 8,
        activations: &[Activation::None],
        finishing: [0, 0],
        reason: "128 channels leave no more columns; a patch of 16 x 16 pixels",
    },
];

/// Of `attention`: rows are queries, columns keys.
pub(in crate::ops::cuda) const ATTENTION: HopperTile = HopperTile {
    kernel: "attention_sm90_d128",
    rows: 128,
    columns: 128,
    stages: 6,
    smem_bytes: 229_488,
    chunk_columns: 64,
    raster_rows: 1,
    activations: &[],
    finishing: [0, 0],
    reason: "queries stay in registers; the last rounds' tiles are shared by keys",
};

/// Of `gemm_qkv`.
pub(in crate::ops::cuda) const QKV: HopperTile = HopperTile {
    kernel: "gemm_qkv_sm90_128x256",
    rows: 128,
    columns: 256,
    stages: 4,
    smem_bytes: 231_584,
    chunk_columns: 64,
    raster_rows: 12,
    activations: &[Activation::None],
    finishing: [0, 0],
    reason: "two whole heads, so that a row's norm is in four neighbouring lanes",
};

impl HopperTile {
    /// How a chunk's rows lie in shared memory.
    pub(in crate::ops::cuda) fn chunk_swizzle(&self) -> Swizzle {
        if [48, 96].contains(&self.chunk_columns) { Swizzle::None } else { Swizzle::Bytes128 }
    }

    /// Cluster tiles that cover the rows of each segment and the columns.
    pub(in crate::ops::cuda) fn count(&self, segments: [usize; 2], columns: usize) -> usize {
        let rows: usize = segments.iter().map(|rows| rows.div_ceil(CLUSTER * self.rows)).sum();
        rows * columns.div_ceil(self.columns)
    }
}

/// The tile that is done first, by waves over the card.
pub(in crate::ops::cuda) fn quickest<'t>(
    cuda: &Cuda,
    tiles: impl IntoIterator<Item = &'t HopperTile>,
    segments: [usize; 2],
    [columns, k]: [usize; 2],
    has_residual: bool,
) -> Option<&'t HopperTile> {
    let slots = (cuda.multiprocessors() / CLUSTER).max(1);
    let cost = |tile: &&HopperTile| {
        let waves = tile.count(segments, columns).div_ceil(slots);
        waves * tile.rows * tile.columns * (k + tile.finishing[usize::from(has_residual)])
    };
    tiles.into_iter().min_by_key(cost)
}

/// The table in words, a line a tile.
pub(in crate::ops) fn describe() -> Vec<String> {
    let line = |tile: &HopperTile| {
        let HopperTile { kernel, rows, columns, stages, raster_rows, reason, .. } = tile;
        format!(
            "{kernel:<31} sm90      {rows:>3} x {columns:<3}  {stages} stages  cluster {CLUSTER}  \
             raster {raster_rows:>2}  {reason}"
        )
    };
    let fp8 = FP8_ROW.iter().chain(&FP8_GELU).chain([&FP8_QKV, &FP8_ATTENTION]);
    let tiles = GEMM.iter().chain([&QKV]).chain(&CONV2D).chain([&ATTENTION]).chain(fp8);
    tiles.map(line).collect()
}

/// A cluster of two blocks for each of so many tiles, as far as the card holds them at a time: blocks
/// stay and go through tiles.
pub(in crate::ops::cuda) fn cluster_launch(
    cuda: &Cuda,
    op: &'static str,
    tiles: usize,
    smem_bytes: u32,
) -> Result<Launch> {
    let clusters = tiles.min((cuda.multiprocessors() / CLUSTER).max(1));
    Ok(Launch {
        grid: [int(op, "grid", CLUSTER * clusters)?.unsigned_abs(), 1, 1],
        threads: 384,
        smem_bytes,
        work: Work::None,
    })
}

/// The two row ranges of a product.
#[derive(Clone, Copy)]
pub(in crate::ops::cuda) struct Segments<'a> {
    pub(in crate::ops::cuda) cuda: &'a Cuda,
    /// Rows of the first.
    pub(in crate::ops::cuda) split: usize,
    /// Rows of both.
    pub(in crate::ops::cuda) rows: usize,
}

impl Segments<'_> {
    /// Rows of each, as kernels take them.
    pub(in crate::ops::cuda) fn lengths(self, op: &'static str) -> Result<[i32; 2]> {
        Ok([int(op, "M", self.split)?, int(op, "M", self.rows - self.split)?])
    }

    /// A map of each range's rows of a matrix, for copies of so many rows and columns.
    pub(in crate::ops::cuda) fn maps<T: Mapped>(
        self,
        matrix: Matrix<'_, T>,
        [tile_rows, tile_columns]: [usize; 2],
        swizzle: Swizzle,
    ) -> Result<[TensorMap; 2]> {
        let map = |start: usize, end: usize| {
            let part = matrix.rows(start..end);
            let [height, width] = part.shape();
            self.cuda.tensor_map(&MapLayout {
                element: T::ELEMENT,
                address: part.cuda_address(),
                sizes: [width, height],
                strides: [1, part.stride()],
                tile: [tile_columns, tile_rows],
                swizzle,
            })
        };
        // A range without rows is never read, but its map has to be one.
        match self.split {
            0 => map(0, self.rows).map(|map| [map, map]),
            split if split == self.rows => map(0, split).map(|map| [map, map]),
            split => Ok([map(0, split)?, map(split, self.rows)?]),
        }
    }
}

/// Maps of two `[N, K]` weights in bf16 or e4m3, whose rows are `stride` elements apart. Each block of a cluster brings one half of a tile's rows and gives it
/// to both.
pub(in crate::ops::cuda) fn weight_maps(
    cuda: &Cuda,
    element: MapElement,
    addresses: [u64; 2],
    [n, k, stride]: [usize; 3],
    tile_columns: usize,
) -> Result<[TensorMap; 2]> {
    let map = |address| {
        cuda.tensor_map(&MapLayout {
            element,
            address,
            sizes: [k, n],
            strides: [1, stride],
            tile: [SLAB_BYTES / element.size(), tile_columns / CLUSTER],
            swizzle: Swizzle::Bytes128,
        })
    };
    Ok([map(addresses[0])?, map(addresses[1])?])
}
