/* out [n]: the normal numbers that torch.randn draws on a CUDA device for a seed, bit for bit:
   Philox 4x32-10, dealt out by PyTorch's launch grid: spec flux 5.4. Must be compiled without
   fast-math: logarithm and root are the accurate ones, sine and cosine the fast ones. Oracle:
   src/ops/cpu/noise/philox.rs, launcher: src/ops/cuda/noise.rs.

   Entry noise: any grid of 256 threads, `draw_threads` in all being one pass; no dynamic shared
   memory. The numbers depend on draw_threads, never on the launch. */

#include "common/bf16.cuh"
#include "common/philox.cuh"

#include <cstddef>
#include <cstdint>

namespace flux_rt {

struct NoiseParams {
    float *out; // [count]
    int32_t count;
    int32_t draw_threads;  // P: threads of the launch to repeat, 256 min(ceil(count / 256), blocks)
    uint32_t seed_low;     // of the 64-bit seed
    uint32_t seed_high;    // likewise
    int32_t round_to_bf16; // not 0: the pipeline draws in bf16; `out` holds the rounded values
    int32_t reserved;      // 0
};
static_assert(sizeof(NoiseParams) == 32, "mirrored by the launcher");
static_assert(offsetof(NoiseParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(NoiseParams, count) == 8, "mirrored by the launcher");
static_assert(offsetof(NoiseParams, draw_threads) == 12, "mirrored by the launcher");
static_assert(offsetof(NoiseParams, seed_low) == 16, "mirrored by the launcher");
static_assert(offsetof(NoiseParams, seed_high) == 20, "mirrored by the launcher");
static_assert(offsetof(NoiseParams, round_to_bf16) == 24, "mirrored by the launcher");
static_assert(offsetof(NoiseParams, reserved) == 28, "mirrored by the launcher");

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(256)
    noise(const __grid_constant__ flux_rt::NoiseParams params) {
    using namespace flux_rt;
    const int64_t count = params.count, draw_threads = params.draw_threads;
    const int64_t launched = static_cast<int64_t>(gridDim.x) * blockDim.x;
    for (int64_t thread = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
         thread < draw_threads; thread += launched) {
        uint32_t draw = 0;
        for (int64_t first = thread; first < count; first += 4 * draw_threads) {
            uint32_t words[4] = {draw, 0, static_cast<uint32_t>(thread), 0};
            philox(words, params.seed_low, params.seed_high);
            float normals[4];
            box_muller(normals[0], normals[1], words[0], words[1]);
            // Usually the grid is as large as the tensor, and only the first number of four is
            // used.
            normals[2] = normals[3] = 0.0f;
            if (first + 2 * draw_threads < count) {
                box_muller(normals[2], normals[3], words[2], words[3]);
            }
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int64_t index = first + i * draw_threads;
                if (index < count) {
                    // PyTorch ends with `* std + mean`, here 1 and 0, which turns -0 into 0.
                    const float normal = __fadd_rn(normals[i], 0.0f);
                    params.out[index] = params.round_to_bf16 != 0 ? round_to_bf16(normal) : normal;
                }
            }
            ++draw;
        }
    }
}
