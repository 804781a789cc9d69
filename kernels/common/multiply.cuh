// The main loop of a matrix kernel: sums += A [M, K] W [N, K]^T for one block tile, both operands
// coming through a ring of shared slabs that `load` objects fill with cp.async.
#pragma once

#include "cp_async.cuh"
#include "mma.cuh"
#include "shared_memory.cuh"
#include "swizzle.cuh"
#include "tile.cuh"

#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Which 16-byte chunks of a slab's ROWS rows a thread copies: chunk `chunk` of the rows `row`,
// `row + ROW_STEP`, ...
template <class Tile, int ROWS> struct ChunkMap {
    static constexpr int CHUNKS = Tile::ROW_BYTES / 16, CHUNK_COLUMNS = Tile::K / CHUNKS;
    static constexpr int ROW_STEP = Tile::THREADS / CHUNKS;
    static constexpr int COUNT = ROWS / ROW_STEP;
    // Bytes between a thread's chunks in shared memory.
    static constexpr int SHARED_STEP = ROW_STEP * Tile::ROW_BYTES;

    static_assert(Tile::THREADS % CHUNKS == 0 && ROWS % ROW_STEP == 0, "whole passes");
    static_assert(ROW_STEP % 8 == 0, "the swizzle repeats every 8 rows");
    static_assert(COUNT <= 32, "one validity bit a row");

    __device__ static __forceinline__ int row() { return static_cast<int>(threadIdx.x) / CHUNKS; }
    __device__ static __forceinline__ int chunk() { return static_cast<int>(threadIdx.x) % CHUNKS; }
    __device__ static __forceinline__ uint32_t shared_offset() {
        return swizzled<Tile::ROW_BYTES>(row(), chunk());
    }
};

// Columns of a matrix that a product leaves out: what it takes from column `at` on lies `by`
// further.
struct Gap {
    int at, by;
};

// Loads slab after slab of ROWS rows of a row-major matrix; rows from `row_count` and columns from
// `k` on are zeros. `k` and a gap are multiples of a chunk's columns, rows are 16-byte aligned.
template <class Tile, int ROWS> class MatrixLoader {
    using Map = ChunkMap<Tile, ROWS>;
    using Element = typename Tile::Element;

    const Element *source;
    int row_step;
    uint32_t valid_rows;
    int columns_left;
    int left_at_gap, gap;

  public:
    __device__ __forceinline__ MatrixLoader(const Element *first_row, int row_stride, int row_count,
                                            int k, Gap gap = {0, 0})
        : source(first_row + static_cast<int64_t>(Map::row()) * row_stride +
                 Map::chunk() * Map::CHUNK_COLUMNS),
          row_step(Map::ROW_STEP * row_stride), valid_rows(0),
          columns_left(k - Map::chunk() * Map::CHUNK_COLUMNS), left_at_gap(k - gap.at),
          gap(gap.by) {
#pragma unroll
        for (int i = 0; i < Map::COUNT; ++i) {
            const bool valid = Map::row() + i * Map::ROW_STEP < row_count;
            valid_rows |= static_cast<uint32_t>(valid) << i;
        }
    }

    // Copies the next slab to the tile at shared address `tile`.
    __device__ __forceinline__ void load(uint32_t tile) {
        const uint32_t valid = columns_left > 0 ? valid_rows : 0;
        const Element *const from = source + (columns_left <= left_at_gap ? gap : 0);
#pragma unroll
        for (int i = 0; i < Map::COUNT; ++i) {
            cp_async_16(tile + Map::shared_offset() + i * Map::SHARED_STEP,
                        from + static_cast<int64_t>(i) * row_step, (valid >> i) & 1);
        }
        source += Tile::K;
        columns_left -= Tile::K;
    }
};

// A thread's sums: fragment [i][j] covers rows 16 i of its warp's part, columns 8 j.
template <class Tile> using Sums = float[Tile::FRAGMENTS_M][Tile::FRAGMENTS_N][4];

// One warp's operands for 32 bytes of K.
template <class Tile> struct Operands {
    uint32_t a[Tile::FRAGMENTS_M][4];
    uint32_t b[Tile::FRAGMENTS_N][2];
};

// Reads a warp's operands from a slab.
template <class Tile> class OperandReader {
    uint32_t a_row, b_row; // this lane's byte offsets at k = 0

  public:
    __device__ __forceinline__ OperandReader() {
        const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
        const uint32_t warp_m = warp / Tile::WARPS_N, warp_n = warp % Tile::WARPS_N;
        // A: matrices rows 0-7, rows 8-15, then the same 8 columns further. W: columns first.
        a_row = swizzled<Tile::ROW_BYTES>(warp_m * Tile::WARP_M + lane % 16, lane / 16);
        b_row = Tile::A_BYTES + swizzled<Tile::ROW_BYTES>(
                                    warp_n * Tile::WARP_N + lane % 8 + lane / 16 * 8, lane / 8 % 2);
    }

    // Bytes 32 `step` ... of the rows of the slab at shared address `slab`. XORing the chunk index
    // with 2 `step` is adding it, since the lane's own chunk is 0 or 1.
    __device__ __forceinline__ void read(Operands<Tile> &operands, uint32_t slab, int step) const {
#pragma unroll
        for (int i = 0; i < Tile::FRAGMENTS_M; ++i) {
            ldmatrix_x4(operands.a[i], slab + (a_row ^ (step * 32)) + i * 16 * Tile::ROW_BYTES);
        }
#pragma unroll
        for (int j = 0; j < Tile::FRAGMENTS_N; j += 2) {
            uint32_t words[4];
            ldmatrix_x4(words, slab + (b_row ^ (step * 32)) + j * 8 * Tile::ROW_BYTES);
            operands.b[j][0] = words[0];
            operands.b[j][1] = words[1];
            operands.b[j + 1][0] = words[2];
            operands.b[j + 1][1] = words[3];
        }
    }
};

template <class Tile>
__device__ __forceinline__ void multiply_operands(Sums<Tile> &sums,
                                                  const Operands<Tile> &operands) {
#pragma unroll
    for (int i = 0; i < Tile::FRAGMENTS_M; ++i) {
#pragma unroll
        for (int j = 0; j < Tile::FRAGMENTS_N; ++j) {
            mma<typename Tile::Element>(sums[i][j], operands.a[i], operands.b[j]);
        }
    }
}

// `slabs` is at least 1. Afterwards the shared memory is free for every thread.
//
// One barrier a slab: at the barrier inside slab s every thread has its last operands of s in
// registers or under way from ldmatrix, and slab s + 1 is complete. The copies issued in slab s + 1
// overwrite slab s, after that barrier.
template <class Tile, class LoaderA, class LoaderB>
__device__ __forceinline__ void multiply(Sums<Tile> &sums, LoaderA &a, LoaderB &b, int slabs) {
    constexpr int STEPS = Tile::ROW_BYTES / 32;
    const uint32_t ring = shared_address(dynamic_shared());
    const OperandReader<Tile> reader;

#pragma unroll
    for (int i = 0; i < Tile::FRAGMENTS_M; ++i) {
#pragma unroll
        for (int j = 0; j < Tile::FRAGMENTS_N; ++j) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                sums[i][j][e] = 0.0f;
            }
        }
    }
#pragma unroll
    for (int stage = 0; stage < Tile::STAGES - 1; ++stage) {
        if (stage < slabs) {
            a.load(ring + stage * Tile::STAGE_BYTES);
            b.load(ring + stage * Tile::STAGE_BYTES + Tile::A_BYTES);
        }
        cp_async_commit(); // empty groups keep the count of pending groups the same for every slab
    }
    cp_async_wait<Tile::STAGES - 2>();
    __syncthreads();

    Operands<Tile> operands[2];
    uint32_t read_stage = ring;
    uint32_t write_stage = ring + (Tile::STAGES - 1) * Tile::STAGE_BYTES;
    constexpr uint32_t RING_BYTES = Tile::SLAB_BYTES;
    reader.read(operands[0], read_stage, 0);
#pragma unroll 1
    for (int slab = 0; slab < slabs; ++slab) {
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            if (step == STEPS - 1) {
                cp_async_wait<Tile::STAGES - 2>();
                __syncthreads();
                read_stage += Tile::STAGE_BYTES;
                read_stage = read_stage == ring + RING_BYTES ? ring : read_stage;
            }
            // After the last slab this reads a stage that holds nothing of use, and is not used.
            reader.read(operands[(step + 1) % 2], read_stage, (step + 1) % STEPS);
            if (step == 0) {
                if (slab + Tile::STAGES - 1 < slabs) {
                    a.load(write_stage);
                    b.load(write_stage + Tile::A_BYTES);
                }
                cp_async_commit();
                write_stage += Tile::STAGE_BYTES;
                write_stage = write_stage == ring + RING_BYTES ? ring : write_stage;
            }
            multiply_operands<Tile>(sums, operands[step % 2]);
        }
    }
    __syncthreads();
}

} // namespace flux_rt
