// Finishes products: bias, factor, residual, activation.
#pragma once

#include "../activation.cuh"
#include "../bf16.cuh"
#include "activation.cuh"
#include "matrix_kernel.cuh"

#include <cstdint>

namespace flux_rt {

// What is left to do with sums: for most layers to add the bias.
enum class Steps { BIAS, BIAS_FACTOR_RESIDUAL };

// Finishes the sums of one tile. ROUND rounds to bf16 after every operation, as PyTorch does.
template <class Tile, Activation ACTIVATION, Steps STEPS, bool ROUND> class LinearEpilogue {
    const ColumnPair *pairs; // of this lane's first column

    // bf16 is the upper half of an f32.
    __device__ static __forceinline__ float2 unpack(uint32_t word) {
        return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
    }

    __device__ static __forceinline__ float2 rounded(float2 values) {
        return ROUND ? unpack(pack_bf16(values.x, values.y)) : values;
    }

    __device__ static __forceinline__ uint32_t finish_pair(float low, float high,
                                                           const ColumnPair &column, uint32_t old) {
        float2 values = rounded(make_float2(low + column.bias[0], high + column.bias[1]));
        if (STEPS == Steps::BIAS_FACTOR_RESIDUAL) {
            const float2 before = unpack(old);
            values = rounded(make_float2(values.x * column.factor[0], values.y * column.factor[1]));
            values = rounded(make_float2(before.x + values.x, before.y + values.y));
        }
        if (ACTIVATION == Activation::GeluTanh) {
            values = make_float2(gelu_tanh_by_sigmoid(values.x), gelu_tanh_by_sigmoid(values.y));
        }
        return pack_bf16(values.x, values.y);
    }

  public:
    static constexpr int OUTPUT_BYTES = 2;
    static constexpr bool TRANSPOSED = false;

    __device__ __forceinline__ explicit LinearEpilogue(int slot)
        : pairs(column_pairs<Tile>(slot) + threadIdx.x % 4) {}

    __device__ __forceinline__ void finish(uint32_t (&words)[4], const float *eight, int column,
                                           const uint32_t (&old)[4]) const {
#pragma unroll
        for (int right = 0; right < 2; ++right) {
            const ColumnPair pair = pairs[column / 2 + 4 * right];
#pragma unroll
            for (int lower = 0; lower < 2; ++lower) {
                const int word = 2 * right + lower;
                words[word] = finish_pair(eight[2 * word], eight[2 * word + 1], pair, old[word]);
            }
        }
    }
};

} // namespace flux_rt
