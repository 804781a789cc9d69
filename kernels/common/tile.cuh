// The block tile of a matrix kernel: its sizes, and which part of the output a block computes.
#pragma once

#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// A block computes M x N outputs from K slabs of K columns that pass through STAGES shared buffers;
// its WARPS_M x WARPS_N warps compute equal parts. BLOCKS_PER_SM bounds the registers. Operands are
// bf16, or bytes, which are e4m3.
template <int M_, int N_, int K_, int STAGES_, int WARPS_M_, int WARPS_N_, int BLOCKS_PER_SM_,
          class Element_ = __nv_bfloat16>
struct Tile {
    using Element = Element_;
    static constexpr int M = M_, N = N_, K = K_, STAGES = STAGES_;
    static constexpr int WARPS_M = WARPS_M_, WARPS_N = WARPS_N_, BLOCKS_PER_SM = BLOCKS_PER_SM_;
    static constexpr int THREADS = 32 * WARPS_M * WARPS_N;

    // A warp's part, and its m16n8 fragments.
    static constexpr int WARP_M = M / WARPS_M, WARP_N = N / WARPS_N;
    static constexpr int FRAGMENTS_M = WARP_M / 16, FRAGMENTS_N = WARP_N / 8;

    // One slab: M rows of A, then N rows of W, swizzled.
    static constexpr int ROW_BYTES = sizeof(Element) * K;
    static constexpr int A_BYTES = M * ROW_BYTES, B_BYTES = N * ROW_BYTES;
    static constexpr int STAGE_BYTES = A_BYTES + B_BYTES;

    // The epilogue passes the sums through two f32 buffers, each one fragment high per warp
    // (epilogue.cuh). Rows are 8 words longer than N: the rows g and g + 1 of a fragment then start
    // 8 banks apart, and a half-warp's 8-byte stores meet every bank once.
    static constexpr int STAGED_ROWS = 16 * WARPS_M, STAGED_STRIDE = N + 8;
    static constexpr int STAGED_FLOATS = STAGED_ROWS * STAGED_STRIDE;

    static constexpr int SLAB_BYTES = STAGES * STAGE_BYTES, STAGED_BYTES = 2 * 4 * STAGED_FLOATS;
    static constexpr int SHARED_BYTES = SLAB_BYTES > STAGED_BYTES ? SLAB_BYTES : STAGED_BYTES;

    static_assert(ROW_BYTES == 64 || ROW_BYTES == 128,
                  "swizzle.cuh knows rows of 64 and 128 bytes");
    static_assert(STAGES >= 3, "the main loop fills one slab while it reads the next two");
    static_assert(WARP_M % 16 == 0 && WARP_N % 16 == 0, "ldmatrix.x4 loads 16 rows of A or of W");
    static_assert(N % 32 == 0 && STAGED_STRIDE % 32 == 8, "bank-free staging");
    static_assert(A_BYTES % 1024 == 0 && B_BYTES % 1024 == 0, "bases keep the swizzle's phase");
};

// Rows of the output, cut at `split` into two segments with weights of their own.
struct Rows {
    int count, split;
};

// A block's place in the output.
struct TilePosition {
    int segment; // 0 or 1
    int row;     // first row
    int row_end; // end of the segment's rows, maybe inside this tile
    int tile_n;  // index of its column tile
};

__device__ __forceinline__ int tiles(int size, int tile) {
    return (size + tile - 1) / tile;
}

// Tile `index` of `tiles(split) + tiles(count - split)` row tiles times `tiles_n` column tiles.
// Blocks run in the order of their index: `raster_rows` row tiles go through all column tiles
// before the next group of row tiles starts, so that concurrent blocks share rows of both operands
// in L2.
template <class Tile>
__device__ __forceinline__ TilePosition tile_position(int index, Rows rows, int tiles_n,
                                                      int raster_rows) {
    const int first_segment = tiles(rows.split, Tile::M);
    const int tiles_m = first_segment + tiles(rows.count - rows.split, Tile::M);
    const int group_tiles = raster_rows * tiles_n;
    const int group_row = index / group_tiles * raster_rows;
    const int group_rows = min(raster_rows, tiles_m - group_row);
    const int in_group = index % group_tiles;
    const int tile_m = group_row + in_group % group_rows;

    TilePosition at;
    at.segment = tile_m < first_segment ? 0 : 1;
    at.row = at.segment == 0 ? tile_m * Tile::M : rows.split + (tile_m - first_segment) * Tile::M;
    at.row_end = at.segment == 0 ? rows.split : rows.count;
    at.tile_n = in_group / group_rows;
    return at;
}

} // namespace flux_rt
