/* out [n] = round(255 clamp(image [n] / 2 + 1/2, 0, 1)), ties to even, NaN becomes 0: spec flux
   7.2. not_finite [1] becomes 1 if a value is NaN or infinite, else it stays. Oracle:
   src/ops/cpu/to_rgb8.rs, launcher: src/ops/cuda/to_rgb8.rs.

   Entry to_rgb8: grid (ceil(n / 2048)), 256 threads, no dynamic shared memory. */

#include "common/vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// 16-byte loads where n is a multiple of 8 and both pointers are 16-byte aligned.
struct ToRgb8Params {
    uint8_t *out;                 // [count]
    const __nv_bfloat16 *image;   // [count], in [-1, 1]
    uint32_t *not_finite;         // [1]
    int32_t count;                // n = H W 3, at least 1
    int32_t round_like_diffusers; // not 0: half and sum are each rounded to bf16
};
static_assert(sizeof(ToRgb8Params) == 32, "mirrored by the launcher");
static_assert(offsetof(ToRgb8Params, out) == 0, "mirrored by the launcher");
static_assert(offsetof(ToRgb8Params, image) == 8, "mirrored by the launcher");
static_assert(offsetof(ToRgb8Params, not_finite) == 16, "mirrored by the launcher");
static_assert(offsetof(ToRgb8Params, count) == 24, "mirrored by the launcher");
static_assert(offsetof(ToRgb8Params, round_like_diffusers) == 28, "mirrored by the launcher");

// All threads that find one store the same number, so their order is no matter.
__device__ __forceinline__ void check(const ToRgb8Params &params, float value) {
    if (!isfinite(value)) {
        *params.not_finite = 1;
    }
}

__device__ __forceinline__ uint32_t to_byte(float value, bool round_like_diffusers) {
    float unit = value * 0.5f + 0.5f;
    if (round_like_diffusers) {
        unit = round_to_bf16(round_to_bf16(value * 0.5f) + 0.5f);
    }
    // fmaxf gives the number of a number and a NaN.
    return __float2uint_rn(fminf(fmaxf(unit, 0.0f), 1.0f) * 255.0f);
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(256)
    to_rgb8(const __grid_constant__ flux_rt::ToRgb8Params params) {
    using namespace flux_rt;
    constexpr int THREADS = 256;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * THREADS * 8;
    const int thread = static_cast<int>(threadIdx.x);
    const bool round = params.round_like_diffusers != 0;
    if (multiples_of_8(params.count) && aligned_16(params.out, params.image)) {
        const int64_t index = first + thread * 8;
        if (index >= params.count) {
            return;
        }
        float values[8];
        load_8(values, params.image + index);
        uint32_t words[2] = {0, 0};
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            check(params, values[i]);
            words[i / 4] |= to_byte(values[i], round) << (8 * (i % 4));
        }
        *reinterpret_cast<uint2 *>(params.out + index) = make_uint2(words[0], words[1]);
        return;
    }
    for (int part = 0; part < 8; ++part) {
        const int64_t index = first + part * THREADS + thread;
        if (index < params.count) {
            const float value = __bfloat162float(params.image[index]);
            check(params, value);
            const uint32_t byte = to_byte(value, round);
            params.out[index] = static_cast<uint8_t>(byte);
        }
    }
}
