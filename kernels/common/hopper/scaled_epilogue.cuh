// Finishes products of scaled e4m3: out = sums * scale of A's row * factor + bias, + residual. The
// factor and the bias of a column come with the gate and the scale of W's row multiplied in.
#pragma once

#include "../bf16.cuh"
#include "matrix_kernel.cuh"

#include <cstdint>

namespace flux_rt {

// The scales of the rows that a thread has sums of, at [chain][lower].
template <class Tile> class ThreadRowScales {
    float scales[Tile::CHAINS][2];

  public:
    __device__ __forceinline__ ThreadRowScales(int slot, int consumer) {
        const int warp = threadIdx.x % WARPGROUP / 32, lane = threadIdx.x % 32;
        const float *const first = row_scales<Tile>(slot) +
                                   (Tile::IN_TURN ? 0 : consumer * Tile::CONSUMER_M) + 16 * warp +
                                   lane / 4;
#pragma unroll
        for (int chain = 0; chain < Tile::CHAINS; ++chain) {
            scales[chain][0] = first[64 * chain];
            scales[chain][1] = first[64 * chain + 8];
        }
    }

    __device__ __forceinline__ float operator()(int chain, int lower) const {
        return scales[chain][lower];
    }
};

template <class Tile>
__device__ __forceinline__ void scale_rows(HopperSums<Tile> &sums, int slot, int consumer) {
    const ThreadRowScales<Tile> scales(slot, consumer);
#pragma unroll
    for (int chain = 0; chain < Tile::CHAINS; ++chain) {
#pragma unroll
        for (int i = 0; i < Tile::N / 2; ++i) {
            sums[chain][i] *= scales(chain, i % 4 / 2);
        }
    }
}

// To bf16, of sums whose rows are scaled.
template <class Tile, bool RESIDUAL> class ScaledEpilogue {
    const ColumnPair *pairs; // of this lane's first column

  public:
    static constexpr int OUTPUT_BYTES = 2;
    static constexpr bool TRANSPOSED = false;

    __device__ __forceinline__ explicit ScaledEpilogue(int slot)
        : pairs(column_pairs<Tile>(slot) + threadIdx.x % 4) {}

    __device__ __forceinline__ void finish(uint32_t (&words)[4], const float *eight, int column,
                                           const uint32_t (&old)[4]) const {
#pragma unroll
        for (int right = 0; right < 2; ++right) {
            const ColumnPair pair = pairs[column / 2 + 4 * right];
#pragma unroll
            for (int lower = 0; lower < 2; ++lower) {
                const int word = 2 * right + lower;
                float even = fmaf(eight[2 * word], pair.factor[0], pair.bias[0]);
                float odd = fmaf(eight[2 * word + 1], pair.factor[1], pair.bias[1]);
                if (RESIDUAL) {
                    // bf16 is the upper half of an f32.
                    even += __uint_as_float(old[word] << 16);
                    odd += __uint_as_float(old[word] & 0xffff0000u);
                }
                words[word] = pack_bf16(even, odd);
            }
        }
    }
};

} // namespace flux_rt
