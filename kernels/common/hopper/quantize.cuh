// Output as e4m3, for the product that reads it: value = x / unit of its column, to nearest even.
#pragma once

#include "../activation.cuh"
#include "activation.cuh"
#include "matrix_kernel.cuh"
#include "scaled_epilogue.cuh"

#include <cstdint>

namespace flux_rt {

// Two f32 as e4m3, `low` in the lower byte; what is too large becomes 448.
__device__ __forceinline__ uint32_t pack_e4m3(float low, float high) {
    uint16_t pair;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(pair) : "f"(high), "f"(low));
    return pair;
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

// To e4m3: GELU of sums whose rows are scaled, * factor + bias, divided by the unit of its column.
template <class Tile> class GeluE4m3Epilogue {
    const ColumnPair *pairs; // of this lane's first column
    const float2 *inverse;   // of the units, likewise
    E4m3Epilogue packed;

  public:
    static constexpr int OUTPUT_BYTES = E4m3Epilogue::OUTPUT_BYTES;
    static constexpr bool TRANSPOSED = E4m3Epilogue::TRANSPOSED;

    __device__ __forceinline__ explicit GeluE4m3Epilogue(int slot)
        : pairs(column_pairs<Tile>(slot) + threadIdx.x % 4),
          inverse(reinterpret_cast<const float2 *>(inverse_units<Tile>(slot)) + threadIdx.x % 4) {}

    __device__ __forceinline__ void finish(uint32_t (&words)[4], const float *sixteen, int column,
                                           const uint32_t (&old)[4]) const {
        float values[16];
#pragma unroll
        for (int eighth = 0; eighth < 4; ++eighth) {
            const ColumnPair pair = pairs[column / 2 + 4 * eighth];
            const float2 unit = inverse[column / 2 + 4 * eighth];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float x = sixteen[4 * eighth + i];
                values[4 * eighth + i] =
                    gelu_tanh_approximate(fmaf(x, pair.factor[i % 2], pair.bias[i % 2])) *
                    (i % 2 == 0 ? unit.x : unit.y);
            }
        }
        packed.finish(words, values, column, old);
    }
};

} // namespace flux_rt
