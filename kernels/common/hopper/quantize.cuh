// Output as e4m3 with a scale per row and block of 128 columns, for the product that reads it:
//   scale = max(largest absolute value, 1e-12) / 448, value = x / scale, to nearest even.
// The values of a block's row are in the four lanes of a quad.
#pragma once

#include "matrix_kernel.cuh"
#include "scaled_epilogue.cuh"

#include <cstdint>

namespace flux_rt {

constexpr int SCALE_BLOCK = 128;

// `value` / 448 as division rounds it: the product with the reciprocal, corrected by its error.
__device__ __forceinline__ float divide_by_448(float value) {
    constexpr float RECIPROCAL = 1.0f / 448.0f;
    const float quotient = value * RECIPROCAL;
    return fmaf(fmaf(-quotient, 448.0f, value), RECIPROCAL, quotient);
}

// Two f32 as e4m3, `low` in the lower byte; what is too large becomes 448.
__device__ __forceinline__ uint32_t pack_e4m3(float low, float high) {
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
}

// Turns sums into activation(sums * scale of A's row * factor + bias) and divides them by their
// blocks' scales, in place. Multiplies by the scale's reciprocal, so a quotient can be off by 2^-22
// of itself. Calls store_scale(block, row, scale), rows and blocks counted in the consumer's part
// of the tile, in one lane of each quad.
template <class Tile, class Activate, class StoreScale>
__device__ __forceinline__ void activate_and_scale(HopperSums<Tile> &sums, int slot, int consumer,
                                                   const Activate &activate,
                                                   const StoreScale &store_scale) {
    static_assert(Tile::N % SCALE_BLOCK == 0, "whole blocks");
    constexpr int EIGHTHS = SCALE_BLOCK / 8;
    const int warp = threadIdx.x % WARPGROUP / 32, lane = threadIdx.x % 32;
    const ThreadRowScales<Tile> scales(slot, consumer);
    const ColumnPair *const pairs = column_pairs<Tile>(slot) + lane % 4;
#pragma unroll
    for (int block = 0; block < Tile::N / SCALE_BLOCK; ++block) {
        float largest[Tile::CHAINS][2] = {};
#pragma unroll
        for (int eighth = block * EIGHTHS; eighth < (block + 1) * EIGHTHS; ++eighth) {
            const ColumnPair pair = pairs[4 * eighth];
#pragma unroll
            for (int chain = 0; chain < Tile::CHAINS; ++chain) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    float &x = sums[chain][4 * eighth + i];
                    x = activate(
                        fmaf(x * scales(chain, i / 2), pair.factor[i % 2], pair.bias[i % 2]));
                    largest[chain][i / 2] = fmaxf(largest[chain][i / 2], fabsf(x));
                }
            }
        }
#pragma unroll
        for (int chain = 0; chain < Tile::CHAINS; ++chain) {
#pragma unroll
            for (int lower = 0; lower < 2; ++lower) {
                float &of_quad = largest[chain][lower];
                of_quad = fmaxf(of_quad, __shfl_xor_sync(~0u, of_quad, 1));
                of_quad = fmaxf(of_quad, __shfl_xor_sync(~0u, of_quad, 2));
                const float scale = divide_by_448(fmaxf(of_quad, 1e-12f));
                if (lane % 4 == 0) {
                    store_scale(block, 64 * chain + 16 * warp + lane / 4 + 8 * lower, scale);
                }
                float inverse;
                asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(scale));
#pragma unroll
                for (int eighth = block * EIGHTHS; eighth < (block + 1) * EIGHTHS; ++eighth) {
                    sums[chain][4 * eighth + 2 * lower] *= inverse;
                    sums[chain][4 * eighth + 2 * lower + 1] *= inverse;
                }
            }
        }
    }
}

// To e4m3, of quotients. stmatrix takes 16 columns of a row as two words of each lane of the quad
// in order, units of two columns: lane q's word is units 2 q and 2 q + 1. Of the products' sums,
// lane q has units q and 4 + q. So units 0 to 3 of lane q go to lane q / 2, the others to 2 + q /
// 2; both rows' units for one lane travel in one word, and two exchanges do for two rows.
class E4m3Epilogue {
    uint32_t first_source, second_source; // lanes
    // Byte selectors: of the units that this lane sends first, and of what it makes of both words.
    uint32_t sent_first, received;

    static constexpr uint32_t LOWER_HALVES = 0x5410, UPPER_HALVES = 0x7632;
    static constexpr uint32_t SWAPPED_LOWER_HALVES = 0x1054;
    static constexpr uint32_t TO_UPPER_HALVES = UPPER_HALVES - LOWER_HALVES;

  public:
    static constexpr int OUTPUT_BYTES = 1;
    static constexpr bool TRANSPOSED = false;

    // Even lanes send their low units first, odd ones their high units.
    __device__ __forceinline__ E4m3Epilogue() {
        const uint32_t lane = threadIdx.x % 32, in_quad = lane % 4;
        first_source = (lane & ~3u) | (in_quad % 2 * 2 + in_quad / 2);
        second_source = first_source ^ 1;
        sent_first = in_quad % 2 == 0 ? LOWER_HALVES : UPPER_HALVES;
        received = in_quad < 2 ? LOWER_HALVES : SWAPPED_LOWER_HALVES;
    }

    __device__ __forceinline__ void finish(uint32_t (&words)[4], const float *sixteen, int,
                                           const uint32_t (&)[4]) const {
#pragma unroll
        for (int right = 0; right < 2; ++right) {
            const float *const eight = sixteen + 8 * right;
            // Low units in the lower half, high units in the upper, of the rows g and g + 8.
            const uint32_t upper = pack_e4m3(eight[0], eight[1]) | pack_e4m3(eight[4], eight[5])
                                                                       << 16;
            const uint32_t lower = pack_e4m3(eight[2], eight[3]) | pack_e4m3(eight[6], eight[7])
                                                                       << 16;
            const uint32_t first = __shfl_sync(~0u, __byte_perm(upper, lower, sent_first),
                                               static_cast<int>(first_source));
            const uint32_t second =
                __shfl_sync(~0u, __byte_perm(upper, lower, sent_first ^ TO_UPPER_HALVES),
                            static_cast<int>(second_source));
            words[2 * right] = __byte_perm(first, second, received);
            words[2 * right + 1] = __byte_perm(first, second, received + TO_UPPER_HALVES);
        }
    }
};

} // namespace flux_rt
