/* out [S, D] = table [V, D][ids [S]] + positions [P, D], S at most P, the positions where there are
   any (CLIP). Oracle: src/ops/cpu/embedding.rs, launcher: src/ops/cuda/embedding.rs.

   Entry embedding: grid (rows), up to 512 threads, no dynamic shared memory. */

#include "common/vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Strides are in elements. 16-byte accesses where D and out_stride are multiples of 8 and the
// pointers 16-byte aligned. Rounds once, as the reference does.
struct EmbeddingParams {
    __nv_bfloat16 *out;             // [rows, columns], row stride out_stride
    const uint32_t *ids;            // [rows], each below vocabulary: the launcher has seen to it
    const __nv_bfloat16 *table;     // [vocabulary, columns]
    const __nv_bfloat16 *positions; // [at least rows, columns]; or null
    int32_t rows;                   // S, at least 1
    int32_t columns;                // D, at least 1
    int32_t out_stride;
    int32_t vocabulary; // V; an id at or above it reads row V - 1, never outside the table
};
static_assert(sizeof(EmbeddingParams) == 48, "mirrored by the launcher");
static_assert(offsetof(EmbeddingParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(EmbeddingParams, ids) == 8, "mirrored by the launcher");
static_assert(offsetof(EmbeddingParams, table) == 16, "mirrored by the launcher");
static_assert(offsetof(EmbeddingParams, positions) == 24, "mirrored by the launcher");
static_assert(offsetof(EmbeddingParams, rows) == 32, "mirrored by the launcher");
static_assert(offsetof(EmbeddingParams, columns) == 36, "mirrored by the launcher");
static_assert(offsetof(EmbeddingParams, out_stride) == 40, "mirrored by the launcher");
static_assert(offsetof(EmbeddingParams, vocabulary) == 44, "mirrored by the launcher");

template <int WIDTH>
__device__ __forceinline__ void embed_row(const EmbeddingParams &params, int64_t row) {
    const uint32_t last = static_cast<uint32_t>(params.vocabulary) - 1;
    const int64_t id = min(params.ids[row], last);
    const __nv_bfloat16 *source = params.table + id * params.columns;
    __nv_bfloat16 *out = params.out + row * params.out_stride;
    for (int32_t column = static_cast<int32_t>(threadIdx.x) * WIDTH; column < params.columns;
         column += static_cast<int32_t>(blockDim.x) * WIDTH) {
        float values[WIDTH];
        load(values, source + column);
        if (params.positions != nullptr) {
            float position[WIDTH];
            load(position, params.positions + row * params.columns + column);
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                values[i] += position[i];
            }
        }
        store(out + column, values);
    }
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(512)
    embedding(const __grid_constant__ flux_rt::EmbeddingParams params) {
    using namespace flux_rt;
    if (multiples_of_8(params.columns, params.out_stride) &&
        aligned_16(params.out, params.table, params.positions)) {
        embed_row<8>(params, blockIdx.x);
    } else {
        embed_row<1>(params, blockIdx.x);
    }
}
