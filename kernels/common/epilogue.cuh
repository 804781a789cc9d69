// From a tile's sums in mma fragments to rows: they pass through shared memory, after which a
// thread holds eight neighbouring columns, which is 16 bytes of bf16 output, residual or gate, and
// a head of 64 or 128 columns lies in 8 or 16 neighbouring lanes.
#pragma once

#include "bf16.cuh"
#include "multiply.cuh"
#include "shared_memory.cuh"
#include "tile.cuh"

#include <cstdint>

namespace flux_rt {

// Index of a staged sum. Swapping the 16-byte halves in every second group of 32 columns puts the
// loads of eight neighbouring lanes, 32 bytes apart, into different banks.
template <class Tile> __device__ __forceinline__ int staged_index(int row, int column) {
    return row * Tile::STAGED_STRIDE + (column ^ (((column >> 5) & 1) << 2));
}

// First of the eight columns of the tile that this thread handles in every row it handles.
template <class Tile> __device__ __forceinline__ int epilogue_column() {
    static_assert(Tile::THREADS % (Tile::N / 8) == 0, "the column is the same in all rows");
    return static_cast<int>(threadIdx.x) % (Tile::N / 8) * 8;
}

// Puts the fragments `sums[fragment]` of all warps into `staged`.
template <class Tile>
__device__ __forceinline__ void stage(float *staged, const float (&sums)[Tile::FRAGMENTS_N][4]) {
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int row = warp / Tile::WARPS_N * 16 + lane / 4;
    const int column = warp % Tile::WARPS_N * Tile::WARP_N + lane % 4 * 2;
#pragma unroll
    for (int j = 0; j < Tile::FRAGMENTS_N; ++j) {
        float2 *const upper =
            reinterpret_cast<float2 *>(&staged[staged_index<Tile>(row, column + 8 * j)]);
        float2 *const lower =
            reinterpret_cast<float2 *>(&staged[staged_index<Tile>(row + 8, column + 8 * j)]);
        *upper = make_float2(sums[j][0], sums[j][1]);
        *lower = make_float2(sums[j][2], sums[j][3]);
    }
}

// Reads eight sums back.
template <class Tile>
__device__ __forceinline__ void load_staged(float (&values)[8], const float *staged, int row,
                                            int column) {
    const float4 low = *reinterpret_cast<const float4 *>(&staged[staged_index<Tile>(row, column)]);
    const float4 high =
        *reinterpret_cast<const float4 *>(&staged[staged_index<Tile>(row, column + 4)]);
    const float sums[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        values[i] = sums[i];
    }
}

// Calls `epilogue.finish(row, values, epilogue.load(row))` for every row of the tile that this
// thread handles, `values` being the eight sums from column `epilogue_column()` on. If
// `Epilogue::LOADS_EARLY`, `load` fetches what the rows need from global memory before the staging,
// so that the latencies of all rows overlap; else the rows run through a loop, since unrolled
// copies of an activation would be most of the kernel's code. All lanes of a warp call together,
// also for rows outside the matrix, so `finish` may shuffle. The shared memory is free before.
template <class Tile, class Epilogue>
__device__ __forceinline__ void for_each_row(const Sums<Tile> &sums, const Epilogue &epilogue) {
    constexpr int LANES = Tile::N / 8;
    constexpr int ROW_STEP = Tile::THREADS / LANES;
    constexpr int ROWS = Tile::STAGED_ROWS / ROW_STEP;
    static_assert(Tile::STAGED_ROWS % ROW_STEP == 0, "every thread handles as many rows");
    const int column = epilogue_column<Tile>();
    const int first_row = static_cast<int>(threadIdx.x) / LANES;
    float *const buffers = reinterpret_cast<float *>(dynamic_shared());
#pragma unroll
    for (int fragment = 0; fragment < Tile::FRAGMENTS_M; ++fragment) {
        // Two buffers in turn: who fills one has passed the barrier that ended the reading of it.
        float *const staged = buffers + fragment % 2 * Tile::STAGED_FLOATS;
        const auto tile_row = [&](int row) {
            return row / 16 * Tile::WARP_M + fragment * 16 + row % 16;
        };
        if constexpr (Epilogue::LOADS_EARLY) {
            typename Epilogue::Loaded loaded[ROWS];
#pragma unroll
            for (int i = 0; i < ROWS; ++i) {
                loaded[i] = epilogue.load(tile_row(first_row + i * ROW_STEP));
            }
            stage<Tile>(staged, sums[fragment]);
            __syncthreads();
#pragma unroll
            for (int i = 0; i < ROWS; ++i) {
                const int row = first_row + i * ROW_STEP;
                float values[8];
                load_staged<Tile>(values, staged, row, column);
                epilogue.finish(tile_row(row), values, loaded[i]);
            }
        } else {
            stage<Tile>(staged, sums[fragment]);
            __syncthreads();
#pragma unroll 1
            for (int row = first_row; row < Tile::STAGED_ROWS; row += ROW_STEP) {
                float values[8];
                load_staged<Tile>(values, staged, row, column);
                epilogue.finish(tile_row(row), values, epilogue.load(tile_row(row)));
            }
        }
    }
}

} // namespace flux_rt
