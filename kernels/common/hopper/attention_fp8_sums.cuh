// Sums in two levels, for the second product of e4m3: the tensor cores cut off what lies some 13
// bits below the sum that they add to, of 4,608 keys with like weights 6.6 % of the result. So
// after every few blocks of keys their sums are added to f32 ones, which lie in shared memory: the
// registers are full.
#pragma once

#include "attention_fp8_shape.cuh"

#include <cstdint>

namespace flux_rt {

// The f32 sums of a consumer's thread. The vectors of its warp's lanes lie side by side.
template <class Shape> class KeptSums {
    static constexpr int VECTORS = Shape::SUM_VECTORS;
    using Sums = float[Shape::OUT_COLUMNS / 2];

    float4 *const mine;
    int blocks = 0;    // of keys, since the last addition
    bool empty = true; // nothing was kept of this piece

  public:
    __device__ __forceinline__ explicit KeptSums(int consumer)
        : mine(reinterpret_cast<float4 *>(dynamic_shared() + Shape::SUM_OFFSET) +
               (consumer * Shape::WARPGROUP + static_cast<int>(threadIdx.x) % Shape::WARPGROUP) /
                   32 * 32 * VECTORS +
               threadIdx.x % 32) {}

    // The tensor cores' sums go on; else they start anew.
    __device__ __forceinline__ bool goes_on() const { return blocks > 0; }

    // After each block of keys; adds `sums` if it is time, or the piece ends.
    __device__ __forceinline__ void count(Sums &sums) {
        if (++blocks < Shape::PROMOTED_BLOCKS) {
            return;
        }
        blocks = 0;
#pragma unroll
        for (int i = 0; i < VECTORS; ++i) {
            float4 four =
                make_float4(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]);
            if (!empty) {
                const float4 old = mine[32 * i];
                four.x += old.x;
                four.y += old.y;
                four.z += old.z;
                four.w += old.w;
            }
            mine[32 * i] = four;
        }
        empty = false;
    }

    // Multiplies the kept sums of both rows.
    __device__ __forceinline__ void scale(const float (&factor)[2]) const {
        if (empty) {
            return;
        }
#pragma unroll
        for (int i = 0; i < VECTORS; ++i) {
            float4 four = mine[32 * i];
            four.x *= factor[0];
            four.y *= factor[0];
            four.z *= factor[1];
            four.w *= factor[1];
            mine[32 * i] = four;
        }
    }

    // At the end of a piece: its sums, of which `sums` are those since the last addition.
    __device__ __forceinline__ void finish(Sums &sums) {
        if (!empty) {
#pragma unroll
            for (int i = 0; i < VECTORS; ++i) {
                const float4 old = mine[32 * i];
                sums[4 * i] += old.x;
                sums[4 * i + 1] += old.y;
                sums[4 * i + 2] += old.z;
                sums[4 * i + 3] += old.w;
            }
        }
        blocks = 0;
        empty = true;
    }
};

} // namespace flux_rt
