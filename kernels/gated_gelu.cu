/* out [S, F] = GELU_tanh(hidden[:, :F]) * hidden[:, F:], T5's MLP hidden layer: spec flux 6.2.
   Oracle: src/ops/cpu/gated_gelu.rs, launcher: src/ops/cuda/gated_gelu.rs.

   Entry gated_gelu: grid (ceil(F / 2048), rows), 256 threads, no dynamic shared memory. */

#include "common/activation.cuh"
#include "common/vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Strides are in elements. 16-byte accesses where F and the strides are multiples of 8 and the
// pointers 16-byte aligned.
struct GatedGeluParams {
    __nv_bfloat16 *out;          // [rows, columns], row stride out_stride; is not `hidden`
    const __nv_bfloat16 *hidden; // [rows, 2 columns], row stride hidden_stride
    int32_t rows;                // S, 1 to 65,535
    int32_t columns;             // F, at least 1
    int32_t out_stride;
    int32_t hidden_stride;
    int32_t round_like_diffusers; // not 0: as transformers' gelu_new, one bf16 tensor an operation
    int32_t reserved;             // 0
};
static_assert(sizeof(GatedGeluParams) == 40, "mirrored by the launcher");
static_assert(offsetof(GatedGeluParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(GatedGeluParams, hidden) == 8, "mirrored by the launcher");
static_assert(offsetof(GatedGeluParams, rows) == 16, "mirrored by the launcher");
static_assert(offsetof(GatedGeluParams, columns) == 20, "mirrored by the launcher");
static_assert(offsetof(GatedGeluParams, out_stride) == 24, "mirrored by the launcher");
static_assert(offsetof(GatedGeluParams, hidden_stride) == 28, "mirrored by the launcher");
static_assert(offsetof(GatedGeluParams, round_like_diffusers) == 32, "mirrored by the launcher");
static_assert(offsetof(GatedGeluParams, reserved) == 36, "mirrored by the launcher");

// 0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 pow(x, 3)))) of bf16 tensors (transformers
// NewGELUActivation); PyTorch's pow(x, 3) is two bf16 products.
__device__ __forceinline__ float gelu_new_in_bf16(float x) {
    constexpr float SQRT_2_OVER_PI = 0.79788456080286535588f;
    const float cube = round_to_bf16(round_to_bf16(x * x) * x);
    const float inner = round_to_bf16(x + round_to_bf16(0.044715f * cube));
    const float tanh = round_to_bf16(tanhf(round_to_bf16(SQRT_2_OVER_PI * inner)));
    return round_to_bf16(round_to_bf16(0.5f * x) * round_to_bf16(1.0f + tanh));
}

template <int WIDTH>
__device__ __forceinline__ void gated_gelu_row(const GatedGeluParams &params, int64_t row) {
    constexpr int THREADS = 256;
    const __nv_bfloat16 *gated = params.hidden + row * params.hidden_stride;
    __nv_bfloat16 *out = params.out + row * params.out_stride;
    // Eight columns a thread in either case.
    const int32_t first = static_cast<int32_t>(blockIdx.x) * THREADS * 8;
#pragma unroll
    for (int part = 0; part < 8 / WIDTH; ++part) {
        const int32_t column = first + (part * THREADS + static_cast<int32_t>(threadIdx.x)) * WIDTH;
        if (column >= params.columns) {
            return;
        }
        float values[WIDTH], linear[WIDTH];
        load(values, gated + column);
        load(linear, gated + params.columns + column);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const float gelu = params.round_like_diffusers != 0 ? gelu_new_in_bf16(values[i])
                                                                : gelu_tanh(values[i]);
            values[i] = gelu * linear[i];
        }
        store(out + column, values);
    }
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(256)
    gated_gelu(const __grid_constant__ flux_rt::GatedGeluParams params) {
    using namespace flux_rt;
    const int64_t row = blockIdx.y;
    if (multiples_of_8(params.columns, params.out_stride, params.hidden_stride) &&
        aligned_16(params.out, params.hidden)) {
        gated_gelu_row<8>(params, row);
    } else {
        gated_gelu_row<1>(params, row);
    }
}
