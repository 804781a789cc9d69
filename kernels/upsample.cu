/* out [2 H, 2 W, C]: out[y, x] = x[y / 2, x / 2], nearest upsampling by two: spec flux 7.1. Oracle:
   src/ops/cpu/upsample.rs, launcher: src/ops/cuda/upsample.rs.

   Entry upsample: grid (ceil(W * C / 2048), H), 256 threads, no dynamic shared memory. */

#include "common/vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// 16-byte accesses where C is a multiple of 8 and the pointers are 16-byte aligned.
struct UpsampleParams {
    __nv_bfloat16 *out;     // [2 height, 2 width, channels]
    const __nv_bfloat16 *x; // [height, width, channels]
    int32_t height;         // H, 1 to 65,535
    int32_t width;          // W, at least 1
    int32_t channels;       // C, at least 1
    int32_t reserved;       // 0
};
static_assert(sizeof(UpsampleParams) == 32, "mirrored by the launcher");
static_assert(offsetof(UpsampleParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(UpsampleParams, x) == 8, "mirrored by the launcher");
static_assert(offsetof(UpsampleParams, height) == 16, "mirrored by the launcher");
static_assert(offsetof(UpsampleParams, width) == 20, "mirrored by the launcher");
static_assert(offsetof(UpsampleParams, channels) == 24, "mirrored by the launcher");
static_assert(offsetof(UpsampleParams, reserved) == 28, "mirrored by the launcher");

// Copies one of the image's rows to two, `Chunk` (8 or 1 channels) by chunk.
template <class Chunk>
__device__ __forceinline__ void upsample_row(const UpsampleParams &params, int64_t y) {
    constexpr int THREADS = 256;
    constexpr int32_t WIDTH = sizeof(Chunk) / sizeof(__nv_bfloat16);
    const int32_t slots = params.channels / WIDTH;
    const int64_t row = static_cast<int64_t>(params.width) * slots;
    const Chunk *source = reinterpret_cast<const Chunk *>(params.x) + y * row;
    Chunk *upper = reinterpret_cast<Chunk *>(params.out) + y * 4 * row;
    Chunk *lower = upper + 2 * row;
    const int32_t first = static_cast<int32_t>(blockIdx.x) * THREADS * (8 / WIDTH);
#pragma unroll
    for (int part = 0; part < 8 / WIDTH; ++part) {
        const int32_t index = first + part * THREADS + static_cast<int32_t>(threadIdx.x);
        if (index >= row) {
            return;
        }
        const Chunk chunk = source[index];
        const int32_t left = index / slots * 2 * slots + index % slots;
        upper[left] = chunk;
        upper[left + slots] = chunk;
        lower[left] = chunk;
        lower[left + slots] = chunk;
    }
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(256)
    upsample(const __grid_constant__ flux_rt::UpsampleParams params) {
    using namespace flux_rt;
    if (multiples_of_8(params.channels) && aligned_16(params.out, params.x)) {
        upsample_row<uint4>(params, blockIdx.y);
    } else {
        upsample_row<__nv_bfloat16>(params, blockIdx.y);
    }
}
