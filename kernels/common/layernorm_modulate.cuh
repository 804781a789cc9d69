// LayerNorm with modulation, of bf16 to bf16 or e4m3: kernels/layernorm_modulate.cu.
#pragma once

#include "normalize_row.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Strides are in elements. Where D, strides and columns are multiples of 8, the pointers 16-byte
// aligned and D at most 4,096, a row is read once; everything else works too, slower.
struct LayernormModulateParams {
    void *out;                  // [rows, columns] bf16 or e4m3, row stride out_stride; is not `x`
    const __nv_bfloat16 *x;     // [rows, columns], row stride x_stride
    const __nv_bfloat16 *table; // [steps, table_stride], the modulation table
    const uint32_t *step;       // [1]: the row of the table
    float *scales;              // [rows]; unused for bf16
    int32_t rows;               // S, at least 1
    int32_t split;              // rows before it use vectors 0, the others vectors 1
    int32_t columns;            // D, at least 1
    int32_t out_stride;
    int32_t x_stride;
    int32_t table_stride;
    int32_t shift_column[2];      // first column in the table, per segment
    int32_t scale_column[2];      // likewise
    float eps;                    // added to the variance
    int32_t round_like_diffusers; // not 0: norm, 1 + scale and product are rounded to bf16 too
};
static_assert(sizeof(LayernormModulateParams) == 88, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, x) == 8, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, table) == 16, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, step) == 24, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, scales) == 32, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, rows) == 40, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, split) == 44, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, columns) == 48, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, out_stride) == 52, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, x_stride) == 56, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, table_stride) == 60, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, shift_column) == 64, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, scale_column) == 72, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, eps) == 80, "mirrored by the launcher");
static_assert(offsetof(LayernormModulateParams, round_like_diffusers) == 84,
              "mirrored by the launcher");

struct Modulate {
    const __nv_bfloat16 *shift;
    const __nv_bfloat16 *scale;
    bool round_like_diffusers;

    template <int WIDTH>
    __device__ __forceinline__ void operator()(float (&values)[WIDTH], int32_t column) const {
        float scales[WIDTH], shifts[WIDTH];
        load(scales, scale + column);
        load(shifts, shift + column);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            scales[i] += 1.0f;
        }
        if (round_like_diffusers) {
            round_all(values);
            round_all(scales);
        }
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const float scaled = values[i] * scales[i];
            values[i] = (round_like_diffusers ? round_to_bf16(scaled) : scaled) + shifts[i];
        }
    }
};

// The row of this block into `out`.
template <class Row>
__device__ __forceinline__ void layernorm_modulate_row(const LayernormModulateParams &params,
                                                       const Row &out) {
    const int32_t row = static_cast<int32_t>(blockIdx.x);
    const int segment = row < params.split ? 0 : 1;
    const __nv_bfloat16 *table =
        params.table + static_cast<int64_t>(*params.step) * params.table_stride;
    const Modulate modulate = {table + params.shift_column[segment],
                               table + params.scale_column[segment],
                               params.round_like_diffusers != 0};
    const __nv_bfloat16 *x = params.x + static_cast<int64_t>(row) * params.x_stride;
    const bool vectors =
        multiples_of_8(params.columns) && aligned_16(x, modulate.shift, modulate.scale);
    normalize_row<true>(out, x, params.columns, params.eps, vectors, modulate);
}

// The same with a scale.
__device__ __forceinline__ void layernorm_modulate_row_fp8(const LayernormModulateParams &params) {
    const int64_t first = static_cast<int64_t>(blockIdx.x) * params.out_stride;
    layernorm_modulate_row(params, QuantizedRow{static_cast<uint8_t *>(params.out) + first,
                                                params.scales + blockIdx.x});
}

} // namespace flux_rt
