/* values [M, K] of x [M, K] in e4m3: value = x / units / scale, to the nearest; units [K] are of
   columns, or 1, the scale of a row is max(largest magnitude, 1e-12) / 448, or 1. Oracle:
   src/ops/cpu/quantize.rs, launcher: src/ops/cuda/quantize.rs.

   Entries quantize_row, which finds scales, and quantize_units, without: grid (rows), 256 threads,
   no dynamic shared memory. */

#include "common/bf16.cuh"
#include "common/e4m3.cuh"
#include "common/reduce.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

constexpr int QUANTIZE_THREADS = 256;

// Strides are in elements; any addresses and counts.
struct QuantizeParams {
    uint8_t *values;        // [rows, columns], row stride values_stride
    float *scales;          // [rows]; unused by quantize_units
    const __nv_bfloat16 *x; // [rows, columns], row stride x_stride
    const float *units;     // [columns], powers of two; or null
    int32_t rows;           // M, at least 1
    int32_t columns;        // K, at least 1
    int32_t values_stride;
    int32_t x_stride;
};
static_assert(sizeof(QuantizeParams) == 48, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, values) == 0, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, scales) == 8, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, x) == 16, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, units) == 24, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, rows) == 32, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, columns) == 36, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, values_stride) == 40, "mirrored by the launcher");
static_assert(offsetof(QuantizeParams, x_stride) == 44, "mirrored by the launcher");

// The row of this block; dividing by a power of two is exact.
struct QuantizedSource {
    const __nv_bfloat16 *x;
    const float *units;

    __device__ __forceinline__ explicit QuantizedSource(const QuantizeParams &params)
        : x(params.x + static_cast<int64_t>(blockIdx.x) * params.x_stride), units(params.units) {}

    __device__ __forceinline__ float operator()(int column) const {
        const float value = __bfloat162float(x[column]);
        return units != nullptr ? __fdiv_rn(value, units[column]) : value;
    }
};

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(256, 8)
    quantize_row(const __grid_constant__ flux_rt::QuantizeParams params) {
    using namespace flux_rt;
    __shared__ float of_warp[QUANTIZE_THREADS / 32];
    const QuantizedSource x(params);
    const int thread = threadIdx.x;
    float most = 0.0f;
    for (int column = thread; column < params.columns; column += QUANTIZE_THREADS) {
        most = fmaxf(most, fabsf(x(column)));
    }
    const float scale = e4m3_scale(block_max<QUANTIZE_THREADS>(most, of_warp));
    if (thread == 0) {
        params.scales[blockIdx.x] = scale;
    }
    uint8_t *const values = params.values + static_cast<int64_t>(blockIdx.x) * params.values_stride;
    for (int column = thread; column < params.columns; column += QUANTIZE_THREADS) {
        values[column] = static_cast<uint8_t>(to_e4m3(__fdiv_rn(x(column), scale)));
    }
}

extern "C" __global__ void __launch_bounds__(256, 8)
    quantize_units(const __grid_constant__ flux_rt::QuantizeParams params) {
    using namespace flux_rt;
    const QuantizedSource x(params);
    uint8_t *const values = params.values + static_cast<int64_t>(blockIdx.x) * params.values_stride;
    for (int column = threadIdx.x; column < params.columns; column += QUANTIZE_THREADS) {
        values[column] = static_cast<uint8_t>(to_e4m3(x(column)));
    }
}
