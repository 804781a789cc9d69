//! What launchers of Hopper's matrix kernels share: tensor maps of their operands, and the grid.

use crate::device::Act;
use crate::device::Cuda;
use crate::device::Launch;
use crate::device::MapLayout;
use crate::device::Matrix;
use crate::device::Swizzle;
use crate::device::TensorMap;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::int;

/// Columns of A and W that a copy brings: 128 bytes, as wide as the swizzle.
pub(in crate::ops::cuda) const SLAB: usize = 64;
/// Rows of `out` and `residual` that a copy moves.
pub(in crate::ops::cuda) const CHUNK_ROWS: usize = 64;
/// Blocks of a cluster, below each other.
pub(in crate::ops::cuda) const CLUSTER: usize = 2;

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
    pub(in crate::ops::cuda) fn maps(
        self,
        matrix: Matrix<'_, Act>,
        [tile_rows, tile_columns]: [usize; 2],
        swizzle: Swizzle,
    ) -> Result<[TensorMap; 2]> {
        let map = |start: usize, end: usize| {
            let part = matrix.rows(start..end);
            let [height, width] = part.shape();
            self.cuda.tensor_map(&MapLayout {
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

/// Maps of two `[N, K]` weights. Each block of a cluster brings one half of a tile's rows and gives it
/// to both.
pub(in crate::ops::cuda) fn weight_maps(
    cuda: &Cuda,
    addresses: [u64; 2],
    [n, k]: [usize; 2],
    tile_columns: usize,
) -> Result<[TensorMap; 2]> {
    let map = |address| {
        cuda.tensor_map(&MapLayout {
            address,
            sizes: [k, n],
            strides: [1, k],
            tile: [SLAB, tile_columns / CLUSTER],
            swizzle: Swizzle::Bytes128,
        })
    };
    Ok([map(addresses[0])?, map(addresses[1])?])
}
