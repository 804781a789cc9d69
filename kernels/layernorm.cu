/* out [S, D] = LayerNorm(x [S, D]) * weight [D] + bias [D], CLIP's: spec flux 6.1. Rounds once, as
   PyTorch's does in bf16. Oracle: src/ops/cpu/layernorm.rs, launcher: src/ops/cuda/layernorm.rs.

   Entry layernorm: grid (rows), 128 threads, no dynamic shared memory. */

#include "common/normalize_row.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Strides are in elements. Where D and strides are multiples of 8, the pointers 16-byte aligned and
// D at most 4,096, a row is read once; everything else works too, slower.
struct LayernormParams {
    __nv_bfloat16 *out;     // [rows, columns], row stride out_stride; is not `x`
    const __nv_bfloat16 *x; // [rows, columns], row stride x_stride
    const float *weight;    // [columns]
    const float *bias;      // [columns]
    int32_t rows;           // S, at least 1
    int32_t columns;        // D, at least 1
    int32_t out_stride;
    int32_t x_stride;
    float eps;        // added to the variance
    int32_t reserved; // 0
};
static_assert(sizeof(LayernormParams) == 56, "mirrored by the launcher");
static_assert(offsetof(LayernormParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(LayernormParams, x) == 8, "mirrored by the launcher");
static_assert(offsetof(LayernormParams, weight) == 16, "mirrored by the launcher");
static_assert(offsetof(LayernormParams, bias) == 24, "mirrored by the launcher");
static_assert(offsetof(LayernormParams, rows) == 32, "mirrored by the launcher");
static_assert(offsetof(LayernormParams, columns) == 36, "mirrored by the launcher");
static_assert(offsetof(LayernormParams, out_stride) == 40, "mirrored by the launcher");
static_assert(offsetof(LayernormParams, x_stride) == 44, "mirrored by the launcher");
static_assert(offsetof(LayernormParams, eps) == 48, "mirrored by the launcher");
static_assert(offsetof(LayernormParams, reserved) == 52, "mirrored by the launcher");

struct Affine {
    const float *weight;
    const float *bias;

    template <int WIDTH>
    __device__ __forceinline__ void operator()(float (&values)[WIDTH], int32_t column) const {
        float weights[WIDTH], biases[WIDTH];
        load(weights, weight + column);
        load(biases, bias + column);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            values[i] = values[i] * weights[i] + biases[i];
        }
    }
};

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(flux_rt::ROW_THREADS, flux_rt::ROW_BLOCKS_PER_SM)
    layernorm(const __grid_constant__ flux_rt::LayernormParams params) {
    using namespace flux_rt;
    const int64_t row = blockIdx.x;
    __nv_bfloat16 *out = params.out + row * params.out_stride;
    const __nv_bfloat16 *x = params.x + row * params.x_stride;
    const bool vectors =
        multiples_of_8(params.columns) && aligned_16(x) && aligned_16(params.weight, params.bias);
    normalize_row<true>(out, x, params.columns, params.eps, vectors,
                        Affine{params.weight, params.bias});
}
