/* out [S, D] = x [S, D] / sqrt(mean(x^2) + eps) * weight [D], T5's norm: spec flux 6.2. Oracle:
   src/ops/cpu/rmsnorm.rs, launcher: src/ops/cuda/rmsnorm.rs.

   Entry rmsnorm: grid (rows), 512 threads, no dynamic shared memory. */

#include "common/normalize_row.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Strides are in elements. Where D and strides are multiples of 8, the pointers 16-byte aligned and
// D at most 4,096, a row is read once; everything else works too, slower.
struct RmsnormParams {
    __nv_bfloat16 *out;     // [rows, columns], row stride out_stride; is not `x`
    const __nv_bfloat16 *x; // [rows, columns], row stride x_stride
    const float *weight;    // [columns]
    int32_t rows;           // S, at least 1
    int32_t columns;        // D, at least 1
    int32_t out_stride;
    int32_t x_stride;
    float eps;                    // added to the mean square
    int32_t round_like_diffusers; // not 0: rounds to bf16 before the weight as well
};
static_assert(sizeof(RmsnormParams) == 48, "mirrored by the launcher");
static_assert(offsetof(RmsnormParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(RmsnormParams, x) == 8, "mirrored by the launcher");
static_assert(offsetof(RmsnormParams, weight) == 16, "mirrored by the launcher");
static_assert(offsetof(RmsnormParams, rows) == 24, "mirrored by the launcher");
static_assert(offsetof(RmsnormParams, columns) == 28, "mirrored by the launcher");
static_assert(offsetof(RmsnormParams, out_stride) == 32, "mirrored by the launcher");
static_assert(offsetof(RmsnormParams, x_stride) == 36, "mirrored by the launcher");
static_assert(offsetof(RmsnormParams, eps) == 40, "mirrored by the launcher");
static_assert(offsetof(RmsnormParams, round_like_diffusers) == 44, "mirrored by the launcher");

struct Scale {
    const float *weight;
    bool round_like_diffusers;

    template <int WIDTH>
    __device__ __forceinline__ void operator()(float (&values)[WIDTH], int32_t column) const {
        float weights[WIDTH];
        load(weights, weight + column);
        if (round_like_diffusers) {
            round_all(values);
        }
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            values[i] *= weights[i];
        }
    }
};

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(512, 4)
    rmsnorm(const __grid_constant__ flux_rt::RmsnormParams params) {
    using namespace flux_rt;
    const int64_t row = blockIdx.x;
    __nv_bfloat16 *out = params.out + row * params.out_stride;
    const __nv_bfloat16 *x = params.x + row * params.x_stride;
    const bool vectors =
        multiples_of_8(params.columns) && aligned_16(x) && aligned_16(params.weight);
    normalize_row<false, 512, 1>(out, x, params.columns, params.eps, vectors,
                                 Scale{params.weight, params.round_like_diffusers != 0});
}
