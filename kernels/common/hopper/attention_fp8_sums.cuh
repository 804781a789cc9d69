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
    int blocks = 0;                 // of keys, since the last addition
    bool empty = true;              // nothing was kept of this piece
    float factor[2] = {1.0f, 1.0f}; // what is kept of both rows is to be multiplied by

    __device__ __forceinline__ void add_kept(float4 &four, int vector) const {
        const float4 old = mine[32 * vector];
        four.x = fmaf(old.x, factor[0], four.x);
        four.y = fmaf(old.y, factor[0], four.y);
        four.z = fmaf(old.z, factor[1], four.z);
        four.w = fmaf(old.w, factor[1], four.w);
    }

  public:
    __device__ __forceinline__ explicit KeptSums(int consumer)
        : mine(reinterpret_cast<float4 *>(dynamic_shared() + Shape::SUM_OFFSET) +
               (consumer * Shape::WARPGROUP + static_cast<int>(threadIdx.x) % Shape::WARPGROUP) /
                   32 * 32 * VECTORS +
               threadIdx.x % 32) {}

    // The tensor cores' sums go on; else they start anew.
    __device__ __forceinline__ bool goes_on() const { return blocks > 0; }

    // After each block of keys; adds `sums` if it is time.
    __device__ __forceinline__ void count(const Sums &sums) {
        if (++blocks < Shape::PROMOTED_BLOCKS) {
            return;
        }
#pragma unroll
        for (int i = 0; i < VECTORS; ++i) {
            float4 four =
                make_float4(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]);
            if (!empty) {
                add_kept(four, i);
            }
            mine[32 * i] = four;
        }
        restart(false);
    }

    // Notes that both rows' references rose.
    __device__ __forceinline__ void lower(const float (&by)[2]) {
        factor[0] *= by[0];
        factor[1] *= by[1];
    }

    // At the end of a piece: adds what is kept to `sums`, those since the last addition.
    __device__ __forceinline__ void finish(Sums &sums) {
        if (!empty) {
#pragma unroll
            for (int i = 0; i < VECTORS; ++i) {
                float4 four =
                    make_float4(sums[4 * i], sums[4 * i + 1], sums[4 * i + 2], sums[4 * i + 3]);
                add_kept(four, i);
                sums[4 * i] = four.x;
                sums[4 * i + 1] = four.y;
                sums[4 * i + 2] = four.z;
                sums[4 * i + 3] = four.w;
            }
        }
        restart(true);
    }

  private:
    __device__ __forceinline__ void restart(bool forget) {
        blocks = 0;
        empty = forget;
        factor[0] = factor[1] = 1.0f;
    }
};

} // namespace flux_rt
