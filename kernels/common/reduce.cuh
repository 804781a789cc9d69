// Sums and maxima over the threads of a warp or a block, in an order that does not depend on
// timing: the same numbers give the same bits.
#pragma once

#include <cmath>

namespace flux_rt {

// Sum over the 32 lanes, the same in all of them. All lanes call together.
template <class T> __device__ __forceinline__ T warp_sum(T value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, distance);
    }
    return value;
}

// The largest over the 32 lanes, the same in all of them. All lanes call together.
__device__ __forceinline__ float warp_max(float value) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        value = fmaxf(value, __shfl_xor_sync(0xffffffffu, value, distance));
    }
    return value;
}

// The largest over the THREADS threads of the block, otherwise as block_sum.
template <int THREADS>
__device__ __forceinline__ float block_max(float value, float (&partial)[THREADS / 32]) {
    value = warp_max(value);
    if (threadIdx.x % 32 == 0) {
        partial[threadIdx.x / 32] = value;
    }
    __syncthreads();
    float most = partial[0];
#pragma unroll
    for (int warp = 1; warp < THREADS / 32; ++warp) {
        most = fmaxf(most, partial[warp]);
    }
    return most;
}

// Sum over the THREADS threads of the block, the same in all of them. All threads call together;
// `partial` is shared memory that nothing else uses from here to the next barrier after the call.
template <int THREADS, class T>
__device__ __forceinline__ T block_sum(T value, T (&partial)[THREADS / 32]) {
    static_assert(THREADS % 32 == 0, "whole warps");
    value = warp_sum(value);
    if (threadIdx.x % 32 == 0) {
        partial[threadIdx.x / 32] = value;
    }
    __syncthreads();
    T sum = partial[0];
#pragma unroll
    for (int warp = 1; warp < THREADS / 32; ++warp) {
        sum += partial[warp];
    }
    return sum;
}

} // namespace flux_rt
