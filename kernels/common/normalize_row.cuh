// One row of a norm by the threads of a block, 128 unless the entry says otherwise: statistics in
// f32 over two passes, mean first, then `finish(values, column)` makes the output of 8 or 1
// neighbouring columns from `(x - mean) / sqrt(variance + eps)`. Rows of up to 8 THREADS VECTORS
// columns, 4,096, are read once, into registers.
#pragma once

#include "reduce.cuh"
#include "vector_io.cuh"

#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

constexpr int ROW_THREADS = 128;
// Vectors of eight that a thread holds.
constexpr int ROW_VECTORS = 4;
// Blocks on a multiprocessor: 64 registers a thread.
constexpr int ROW_BLOCKS_PER_SM = 8;

template <bool CENTERED, int THREADS, int VECTORS, class Finish>
__device__ __forceinline__ void normalize_in_registers(__nv_bfloat16 *out, const __nv_bfloat16 *x,
                                                       int32_t columns, float eps,
                                                       const Finish &finish) {
    __shared__ float sums[THREADS / 32], squares[THREADS / 32];
    const int32_t first = 8 * static_cast<int32_t>(threadIdx.x);
    float values[VECTORS][8];
    float sum = 0.0f;
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        const int32_t column = first + v * 8 * THREADS;
        if (column < columns) {
            load_8(values[v], x + column);
        } else {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                values[v][i] = 0.0f;
            }
        }
    }
    float mean = 0.0f;
    if constexpr (CENTERED) {
#pragma unroll
        for (int v = 0; v < VECTORS; ++v) {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                sum += values[v][i];
            }
        }
        mean = block_sum<THREADS>(sum, sums) / static_cast<float>(columns);
    }
    float square = 0.0f;
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        if (first + v * 8 * THREADS < columns) {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                values[v][i] -= mean;
                square += values[v][i] * values[v][i];
            }
        }
    }
    const float variance = block_sum<THREADS>(square, squares) / static_cast<float>(columns);
    const float inverse = rsqrtf(variance + eps);
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        const int32_t column = first + v * 8 * THREADS;
        if (column < columns) {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                values[v][i] *= inverse;
            }
            finish(values[v], column);
        }
    }
    // Apart from the loop above, whose loads the compiler could not move over a store.
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        const int32_t column = first + v * 8 * THREADS;
        if (column < columns) {
            store_8(out + column, values[v]);
        }
    }
}

// The same for any width and alignment, reading the row three times, one element at a time.
template <bool CENTERED, int THREADS, class Finish>
__device__ __forceinline__ void normalize_from_memory(__nv_bfloat16 *out, const __nv_bfloat16 *x,
                                                      int32_t columns, float eps,
                                                      const Finish &finish) {
    __shared__ float sums[THREADS / 32], squares[THREADS / 32];
    const int32_t first = static_cast<int32_t>(threadIdx.x);
    float mean = 0.0f;
    if constexpr (CENTERED) {
        float sum = 0.0f;
#pragma unroll 1
        for (int32_t column = first; column < columns; column += THREADS) {
            sum += __bfloat162float(x[column]);
        }
        mean = block_sum<THREADS>(sum, sums) / static_cast<float>(columns);
    }
    float square = 0.0f;
#pragma unroll 1
    for (int32_t column = first; column < columns; column += THREADS) {
        const float value = __bfloat162float(x[column]) - mean;
        square += value * value;
    }
    const float variance = block_sum<THREADS>(square, squares) / static_cast<float>(columns);
    const float inverse = rsqrtf(variance + eps);
#pragma unroll 1
    for (int32_t column = first; column < columns; column += THREADS) {
        float value[1] = {(__bfloat162float(x[column]) - mean) * inverse};
        finish(value, column);
        store(out + column, value);
    }
}

// LayerNorm's statistics where CENTERED, else RMSNorm's. `vectors`: `out`, `x` and all that
// `finish` reads are 16-byte aligned and `columns` is a multiple of 8.
template <bool CENTERED, int THREADS = ROW_THREADS, int VECTORS = ROW_VECTORS, class Finish>
__device__ __forceinline__ void normalize_row(__nv_bfloat16 *out, const __nv_bfloat16 *x,
                                              int32_t columns, float eps, bool vectors,
                                              const Finish &finish) {
    if (vectors && columns <= 8 * THREADS * VECTORS) {
        normalize_in_registers<CENTERED, THREADS, VECTORS>(out, x, columns, eps, finish);
    } else {
        normalize_from_memory<CENTERED, THREADS>(out, x, columns, eps, finish);
    }
}

} // namespace flux_rt
