// One row of a norm by the threads of a block, 128 unless the entry says otherwise: statistics in
// f32 over two passes, mean first, then `finish(values, column)` makes the output of 8 or 1
// neighbouring columns from `(x - mean) / sqrt(variance + eps)`. Rows of up to 8 THREADS VECTORS
// columns, 4,096, are read once, into registers. The output is a row of bf16, or of e4m3 with one
// scale, for which the row is looked through once more.
#pragma once

#include "e4m3.cuh"
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

// A row of e4m3 and its scale.
struct QuantizedRow {
    uint8_t *values;
    float *scale;
};

// Whether eight neighbouring columns can be stored at once.
__device__ __forceinline__ bool stores_vectors(const __nv_bfloat16 *row) {
    return aligned_16(row);
}
__device__ __forceinline__ bool stores_vectors(const QuantizedRow &row) {
    return (reinterpret_cast<uintptr_t>(row.values) & 7) == 0;
}

template <int WIDTH> __device__ __forceinline__ float largest(const float (&values)[WIDTH]) {
    float most = 0.0f;
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
        most = fmaxf(most, fabsf(values[i]));
    }
    return most;
}

// Stores the scale of a row of which this thread has seen `most`, and returns what values are
// multiplied by: 1 ulp off dividing by it.
template <int THREADS>
__device__ __forceinline__ float store_scale(const QuantizedRow &out, float most,
                                             float (&partial)[THREADS / 32]) {
    const float scale = e4m3_scale(block_max<THREADS>(most, partial));
    if (threadIdx.x == 0) {
        *out.scale = scale;
    }
    return __frcp_rn(scale);
}

// Stores the finished vectors of a thread, which are 8 THREADS columns apart.
template <int THREADS, int VECTORS>
__device__ __forceinline__ void store_row(__nv_bfloat16 *out, const float (&values)[VECTORS][8],
                                          int32_t first, int32_t columns, float (&)[THREADS / 32]) {
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        const int32_t column = first + v * 8 * THREADS;
        if (column < columns) {
            store_8(out + column, values[v]);
        }
    }
}
template <int THREADS, int VECTORS>
__device__ __forceinline__ void store_row(const QuantizedRow &out,
                                          const float (&values)[VECTORS][8], int32_t first,
                                          int32_t columns, float (&partial)[THREADS / 32]) {
    float most = 0.0f;
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        if (first + v * 8 * THREADS < columns) {
            most = fmaxf(most, largest(values[v]));
        }
    }
    const float inverse = store_scale<THREADS>(out, most, partial);
#pragma unroll
    for (int v = 0; v < VECTORS; ++v) {
        const int32_t column = first + v * 8 * THREADS;
        if (column < columns) {
            uint32_t words[2];
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float *const four = values[v] + 4 * i;
                words[i] = pack_e4m3(four[0] * inverse, four[1] * inverse, four[2] * inverse,
                                     four[3] * inverse);
            }
            *reinterpret_cast<uint2 *>(out.values + column) = make_uint2(words[0], words[1]);
        }
    }
}

template <bool CENTERED, int THREADS, int VECTORS, class Row, class Finish>
__device__ __forceinline__ void normalize_in_registers(const Row &out, const __nv_bfloat16 *x,
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
    // Apart from the loop above, whose loads the compiler could not move over a store. What is in
    // `sums` was read by all before the last barrier.
    store_row<THREADS>(out, values, first, columns, sums);
}

// Stores the finished columns of a thread, which are THREADS apart; `value(column)` makes one.
template <int THREADS, class Value>
__device__ __forceinline__ void store_columns(__nv_bfloat16 *out, int32_t columns,
                                              float (&)[THREADS / 32], const Value &value) {
#pragma unroll 1
    for (int32_t column = static_cast<int32_t>(threadIdx.x); column < columns; column += THREADS) {
        out[column] = __float2bfloat16_rn(value(column));
    }
}
template <int THREADS, class Value>
__device__ __forceinline__ void store_columns(const QuantizedRow &out, int32_t columns,
                                              float (&partial)[THREADS / 32], const Value &value) {
    const int32_t first = static_cast<int32_t>(threadIdx.x);
    float most = 0.0f;
#pragma unroll 1
    for (int32_t column = first; column < columns; column += THREADS) {
        most = fmaxf(most, fabsf(value(column)));
    }
    const float inverse = store_scale<THREADS>(out, most, partial);
#pragma unroll 1
    for (int32_t column = first; column < columns; column += THREADS) {
        out.values[column] = static_cast<uint8_t>(to_e4m3(value(column) * inverse));
    }
}

// The same for any width and alignment, reading the row three times or more, one element at a time.
template <bool CENTERED, int THREADS, class Row, class Finish>
__device__ __forceinline__ void normalize_from_memory(const Row &out, const __nv_bfloat16 *x,
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
    store_columns<THREADS>(out, columns, sums, [&](int32_t column) {
        float value[1] = {(__bfloat162float(x[column]) - mean) * inverse};
        finish(value, column);
        return value[0];
    });
}

// LayerNorm's statistics where CENTERED, else RMSNorm's. `vectors`: `x` and all that `finish` reads
// are 16-byte aligned and `columns` is a multiple of 8.
template <bool CENTERED, int THREADS = ROW_THREADS, int VECTORS = ROW_VECTORS, class Row,
          class Finish>
__device__ __forceinline__ void normalize_row(const Row &out, const __nv_bfloat16 *x,
                                              int32_t columns, float eps, bool vectors,
                                              const Finish &finish) {
    if (vectors && stores_vectors(out) && columns <= 8 * THREADS * VECTORS) {
        normalize_in_registers<CENTERED, THREADS, VECTORS>(out, x, columns, eps, finish);
    } else {
        normalize_from_memory<CENTERED, THREADS>(out, x, columns, eps, finish);
    }
}

} // namespace flux_rt
