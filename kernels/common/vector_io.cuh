// WIDTH values at a time, so that one template serves both cases of an elementwise kernel: eight
// (16 bytes of bf16) where every address allows it, else one.
#pragma once

#include "bf16.cuh"

#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Whether all of the pointers are multiples of 16 bytes; null is.
template <class... T> __device__ __forceinline__ bool aligned_16(const T *...pointers) {
    return ((reinterpret_cast<uintptr_t>(pointers) | ...) & 15) == 0;
}

// Whether all of the counts or strides are multiples of 8 elements.
template <class... T> __device__ __forceinline__ bool multiples_of_8(T... counts) {
    return ((counts | ...) & 7) == 0;
}

template <int WIDTH>
__device__ __forceinline__ void load(float (&values)[WIDTH], const __nv_bfloat16 *source) {
    if constexpr (WIDTH == 8) {
        load_8(values, source);
    } else {
        static_assert(WIDTH == 1, "eight or one");
        values[0] = __bfloat162float(*source);
    }
}

template <int WIDTH>
__device__ __forceinline__ void load(float (&values)[WIDTH], const float *source) {
    if constexpr (WIDTH == 8) {
        load_8(values, source);
    } else {
        static_assert(WIDTH == 1, "eight or one");
        values[0] = *source;
    }
}

template <int WIDTH>
__device__ __forceinline__ void store(__nv_bfloat16 *target, const float (&values)[WIDTH]) {
    if constexpr (WIDTH == 8) {
        store_8(target, values);
    } else {
        static_assert(WIDTH == 1, "eight or one");
        *target = __float2bfloat16_rn(values[0]);
    }
}

// Rounds every value to bf16, where a reference in bf16 stores a tensor.
template <int WIDTH> __device__ __forceinline__ void round_all(float (&values)[WIDTH]) {
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
        values[i] = round_to_bf16(values[i]);
    }
}

} // namespace flux_rt
