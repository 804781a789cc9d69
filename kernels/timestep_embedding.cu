/* out [N, 2 F] = [cos(t f_0 .. t f_(F-1)), sin(t f_0 .. t f_(F-1))], f_i = exp(-ln(10000) i / F),
   for every t of values [N]: spec flux 3.3 step 3. f32 with the accurate functions, which are
   PyTorch's bits. Oracle: src/ops/cpu/timestep_embedding.rs, launcher:
   src/ops/cuda/timestep_embedding.rs.

   Entry timestep_embedding: grid (ceil(F / 128), rows), 128 threads, no dynamic shared memory. */

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

struct TimestepEmbeddingParams {
    __nv_bfloat16 *out;  // [rows, 2 half], row stride out_stride elements
    const float *values; // [rows], already multiplied by 1000
    int32_t rows;        // N, 1 to 65,535
    int32_t half;        // F, at least 1
    int32_t out_stride;
    int32_t reserved; // 0
};
static_assert(sizeof(TimestepEmbeddingParams) == 32, "mirrored by the launcher");
static_assert(offsetof(TimestepEmbeddingParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(TimestepEmbeddingParams, values) == 8, "mirrored by the launcher");
static_assert(offsetof(TimestepEmbeddingParams, rows) == 16, "mirrored by the launcher");
static_assert(offsetof(TimestepEmbeddingParams, half) == 20, "mirrored by the launcher");
static_assert(offsetof(TimestepEmbeddingParams, out_stride) == 24, "mirrored by the launcher");
static_assert(offsetof(TimestepEmbeddingParams, reserved) == 28, "mirrored by the launcher");

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(128)
    timestep_embedding(const __grid_constant__ flux_rt::TimestepEmbeddingParams params) {
    constexpr float LN_MAX_PERIOD = 9.2103404f;
    const int32_t index = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
    if (index >= params.half) {
        return;
    }
    const int64_t row = blockIdx.y;
    const float exponent =
        -LN_MAX_PERIOD * static_cast<float>(index) / static_cast<float>(params.half);
    const float angle = params.values[row] * expf(exponent);
    __nv_bfloat16 *out = params.out + row * params.out_stride;
    out[index] = __float2bfloat16_rn(cosf(angle));
    out[params.half + index] = __float2bfloat16_rn(sinf(angle));
}
