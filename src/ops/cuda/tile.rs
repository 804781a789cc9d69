//! Which block tile a matrix kernel runs with: the tuning table of the portable tier.

pub(super) mod hopper;

use crate::device::Cuda;
use crate::device::Launch;
use crate::device::Work;
use crate::error::Result;
use crate::ops::cuda::blocks;

/// Rows x columns of the output that a block computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tile {
    T64x64,
    T64x128,
    T128x128,
    T128x256,
}

impl Tile {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::T64x64 => "64x64",
            Self::T64x128 => "64x128",
            Self::T128x128 => "128x128",
            Self::T128x256 => "128x256",
        }
    }

    pub(super) fn rows(self) -> usize {
        match self {
            Self::T64x64 | Self::T64x128 => 64,
            Self::T128x128 | Self::T128x256 => 128,
        }
    }

    pub(super) fn columns(self) -> usize {
        match self {
            Self::T64x64 => 64,
            Self::T64x128 | Self::T128x128 => 128,
            Self::T128x256 => 256,
        }
    }

    /// Blocks that an H100's multiprocessor holds at a time.
    fn resident(self) -> usize {
        match self {
            Self::T64x64 => 3,
            Self::T64x128 | Self::T128x128 => 2,
            Self::T128x256 => 1,
        }
    }

    /// Time of one wave of resident blocks, per column of K, in arbitrary units: what a
    /// multiprocessor computes at once, divided by how well the tile keeps it busy.
    fn wave_cost(self) -> usize {
        let outputs = self.rows() * self.columns() * self.resident();
        match self {
            Self::T64x64 => outputs * 16 / 10,
            Self::T64x128 => outputs * 13 / 10,
            Self::T128x128 => outputs * 11 / 10,
            Self::T128x256 => outputs,
        }
    }
}

/// The tables of both tiers in words, a line a tile.
pub(in crate::ops) fn describe() -> Vec<String> {
    let portable = [
        (Tile::T64x64, 4, "few rows or columns: most blocks"),
        (Tile::T64x128, 4, "few rows of whole heads of 128"),
        (Tile::T128x128, 4, "two blocks a multiprocessor fill each other's gaps"),
        (Tile::T128x256, 4, "least bytes a product, where there are whole waves of it"),
    ];
    let line = |(tile, stages, reason): (Tile, usize, &str)| {
        let (rows, columns) = (tile.rows(), tile.columns());
        format!(
            "{:<22} portable  {rows:>3} x {columns:<3}  {stages} stages  cluster 1  raster \
             {RASTER_ROWS:>2}  {reason}",
            "gemm, gemm_qkv, conv2d"
        )
    };
    let hopper = hopper::describe();
    portable.into_iter().map(line).chain(hopper).collect()
}

/// Row tiles that share a sweep over the columns: their operands stay in L2.
const RASTER_ROWS: i32 = 12;

/// A tile and how it covers the output.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiling {
    pub(super) tile: Tile,
    count: usize,
    /// Row tiles that share a sweep over the columns: their operands stay in L2.
    pub(super) raster_rows: i32,
}

impl Tiling {
    /// One block a tile.
    pub(super) fn launch(&self, op: &'static str) -> Result<Launch> {
        let (threads, smem_bytes) = match self.tile {
            Tile::T64x64 | Tile::T128x128 => (128, 65_536),
            Tile::T64x128 => (128, 98_304),
            Tile::T128x256 => (256, 98_304),
        };
        Ok(Launch {
            grid: [blocks(op, self.count, 1)?, 1, 1],
            threads,
            smem_bytes,
            work: Work::None,
        })
    }
}

/// The tile among `tiles` that is done first, by waves over the card. `segments` are rows with weights
/// of their own and `parts` columns of different use; tiles cross neither.
pub(super) fn choose(cuda: &Cuda, segments: [usize; 2], parts: &[usize], tiles: &[Tile]) -> Tiling {
    let count = |tile: Tile| {
        let rows: usize = segments.iter().map(|rows| rows.div_ceil(tile.rows())).sum();
        rows * parts.iter().map(|columns| columns.div_ceil(tile.columns())).sum::<usize>()
    };
    let cost = |tile: Tile| {
        count(tile).div_ceil(cuda.multiprocessors() * tile.resident()) * tile.wave_cost()
    };
    let tile = tiles.iter().copied().min_by_key(|&tile| cost(tile)).unwrap_or(Tile::T64x64);
    Tiling { tile, count: count(tile), raster_rows: RASTER_ROWS }
}
