/* Latents to image tokens and back: packed [y (w/2) + x, 4 c + 2 dy + dx] = latents [c, 2 y + dy,
   2 x + dx]; unpacking goes to channels last, with latents / scaling + shift on the way: spec flux
   3.1 and 7.1. Oracle: src/ops/cpu/pack.rs, launcher: src/ops/cuda/pack.rs.

   Entries pack and unpack: grid (ceil(C h w / 256)), 256 threads, no dynamic shared memory. */

#include "common/bf16.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// C h w is below 2^31.
struct PackParams {
    __nv_bfloat16 *out;   // [h/2 * w/2, 4 C]
    const float *latents; // [C, h, w]
    int32_t channels;     // C
    int32_t height;       // h, even
    int32_t width;        // w, even
    int32_t reserved;     // 0
};
static_assert(sizeof(PackParams) == 32, "mirrored by the launcher");
static_assert(offsetof(PackParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(PackParams, latents) == 8, "mirrored by the launcher");
static_assert(offsetof(PackParams, channels) == 16, "mirrored by the launcher");
static_assert(offsetof(PackParams, height) == 20, "mirrored by the launcher");
static_assert(offsetof(PackParams, width) == 24, "mirrored by the launcher");
static_assert(offsetof(PackParams, reserved) == 28, "mirrored by the launcher");

// C h w is below 2^31.
struct UnpackParams {
    __nv_bfloat16 *out;          // [h, w, C]
    const __nv_bfloat16 *packed; // [h/2 * w/2, 4 C]
    int32_t channels;            // C
    int32_t height;              // h, even
    int32_t width;               // w, even
    float scaling;
    float shift;
    int32_t round_like_diffusers; // not 0: times 1 / scaling, and the quotient is rounded to bf16
};
static_assert(sizeof(UnpackParams) == 40, "mirrored by the launcher");
static_assert(offsetof(UnpackParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(UnpackParams, packed) == 8, "mirrored by the launcher");
static_assert(offsetof(UnpackParams, channels) == 16, "mirrored by the launcher");
static_assert(offsetof(UnpackParams, height) == 20, "mirrored by the launcher");
static_assert(offsetof(UnpackParams, width) == 24, "mirrored by the launcher");
static_assert(offsetof(UnpackParams, scaling) == 28, "mirrored by the launcher");
static_assert(offsetof(UnpackParams, shift) == 32, "mirrored by the launcher");
static_assert(offsetof(UnpackParams, round_like_diffusers) == 36, "mirrored by the launcher");

// This thread's element of the output.
__device__ __forceinline__ int64_t element() {
    return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(256)
    pack(const __grid_constant__ flux_rt::PackParams params) {
    using namespace flux_rt;
    const int32_t columns = 4 * params.channels, tokens_wide = params.width / 2;
    const int64_t at = element();
    if (at >= static_cast<int64_t>(params.channels) * params.height * params.width) {
        return;
    }
    const int32_t index = static_cast<int32_t>(at);
    const int32_t token = index / columns, column = index % columns;
    const int32_t y = token / tokens_wide * 2 + (column >> 1 & 1);
    const int32_t x = token % tokens_wide * 2 + (column & 1);
    const int32_t channel = column >> 2;
    params.out[index] =
        __float2bfloat16_rn(params.latents[(channel * params.height + y) * params.width + x]);
}

extern "C" __global__ void __launch_bounds__(256)
    unpack(const __grid_constant__ flux_rt::UnpackParams params) {
    using namespace flux_rt;
    const int64_t at = element();
    if (at >= static_cast<int64_t>(params.channels) * params.height * params.width) {
        return;
    }
    const int32_t index = static_cast<int32_t>(at);
    const int32_t channel = index % params.channels, pixel = index / params.channels;
    const int32_t x = pixel % params.width, y = pixel / params.width;
    const int32_t token = y / 2 * (params.width / 2) + x / 2;
    const int32_t column = 4 * channel + 2 * (y & 1) + (x & 1);
    const float packed = __bfloat162float(params.packed[token * 4 * params.channels + column]);
    // PyTorch divides a CUDA tensor by a number as a product with its f32 reciprocal.
    const float quotient = params.round_like_diffusers != 0
                               ? round_to_bf16(packed * (1.0f / params.scaling))
                               : packed / params.scaling;
    params.out[index] = __float2bfloat16_rn(quotient + params.shift);
}
