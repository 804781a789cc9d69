/* values [M, K], scales [1 or ceil(K / 128), M] of x [M, K]: e4m3 with a scale for a row, or for
   128 columns of it; scale = max(largest magnitude, 1e-12) / 448, value = x / scale to the nearest.
   Oracle: src/ops/cpu/quantize.rs, launcher: src/ops/cuda/quantize.rs.

   Entries quantize_row and quantize_block: grid (rows), 256 threads, no dynamic shared memory. */

#include "common/bf16.cuh"
#include "common/e4m3.cuh"
#include "common/reduce.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

constexpr int QUANTIZE_THREADS = 256;
constexpr int QUANTIZE_COLUMNS = 128; // of a block

// Strides are in elements; any addresses and counts.
struct QuantizeParams {
    uint8_t *values;        // [rows, columns], row stride values_stride
    float *scales;          // [1 or blocks, rows], row stride scales_stride
    const __nv_bfloat16 *x; // [rows, columns], row stride x_stride
    int32_t rows;           // M, at least 1
    int32_t columns;        // K, at least 1
    int32_t values_stride;
    int32_t scales_stride;
    int32_t x_stride;
    int32_t reserved; // 0
};
static_assert(sizeof(QuantizeParams) == 48, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, values) == 0, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, scales) == 8, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, x) == 16, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, rows) == 24, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, columns) == 28, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, values_stride) == 32, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, scales_stride) == 36, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, x_stride) == 40, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, reserved) == 44, "mirrored by the launcher");

__device__ __forceinline__ float largest(const __nv_bfloat16 *x, int from, int to, int step) {
    float most = 0.0f;
    for (int column = from; column < to; column += step) {
        most = fmaxf(most, fabsf(__bfloat162float(x[column])));
    }
    return most;
}

__device__ __forceinline__ void convert(uint8_t *values, const __nv_bfloat16 *x, float scale,
                                        int from, int to, int step) {
    for (int column = from; column < to; column += step) {
        values[column] =
            static_cast<uint8_t>(to_e4m3(__fdiv_rn(__bfloat162float(x[column]), scale)));
    }
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(256, 8)
    quantize_row(const __grid_constant__ flux_rt::QuantizeParams params) {
    using namespace flux_rt;
    __shared__ float of_warp[QUANTIZE_THREADS / 32];
    const int64_t row = blockIdx.x;
    const int thread = threadIdx.x;
    const __nv_bfloat16 *const x = params.x + row * params.x_stride;
    const float most = largest(x, thread, params.columns, QUANTIZE_THREADS);
    const float scale = e4m3_scale(block_max<QUANTIZE_THREADS>(most, of_warp));
    if (thread == 0) {
        params.scales[row] = scale;
    }
    convert(params.values + row * params.values_stride, x, scale, thread, params.columns,
            QUANTIZE_THREADS);
}

extern "C" __global__ void __launch_bounds__(256, 8)
    quantize_block(const __grid_constant__ flux_rt::QuantizeParams params) {
    using namespace flux_rt;
    const int64_t row = blockIdx.x;
    const int lane = threadIdx.x % 32;
    const __nv_bfloat16 *const x = params.x + row * params.x_stride;
    const int blocks = (params.columns + QUANTIZE_COLUMNS - 1) / QUANTIZE_COLUMNS;
    for (int block = threadIdx.x / 32; block < blocks; block += QUANTIZE_THREADS / 32) {
        const int from = block * QUANTIZE_COLUMNS + lane;
        const int to = min(params.columns, (block + 1) * QUANTIZE_COLUMNS);
        const float scale = e4m3_scale(warp_max(largest(x, from, to, 32)));
        if (lane == 0) {
            params.scales[static_cast<int64_t>(block) * params.scales_stride + row] = scale;
        }
        convert(params.values + row * params.values_stride, x, scale, from, to, 32);
    }
}
