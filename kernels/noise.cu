/* out [n]: the normal numbers that torch.randn draws on a CUDA device for a seed, bit for bit:
   Philox 4x32-10, dealt out by PyTorch's launch grid: spec flux 5.4. Must be compiled without
   fast-math: logarithm and root are the accurate ones, sine and cosine the fast ones. Oracle:
   src/ops/cpu/noise/philox.rs, launcher: src/ops/cuda/noise.rs.

   Entry noise: any grid of 256 threads, `draw_threads` in all being one pass; no dynamic shared
   memory. The numbers depend on draw_threads, never on the launch. */

#include "common/bf16.cuh"

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

// Ten rounds over `counter` (Salmon et al., 2011).
__device__ __forceinline__ void philox(uint32_t (&counter)[4], uint32_t key_0, uint32_t key_1) {
    constexpr uint32_t MULTIPLIER_0 = 0xd2511f53u, MULTIPLIER_1 = 0xcd9e8d57u;
    constexpr uint32_t STEP_0 = 0x9e3779b9u, STEP_1 = 0xbb67ae85u;
#pragma unroll
    for (int round = 0; round < 10; ++round) {
        const uint64_t product_0 = static_cast<uint64_t>(MULTIPLIER_0) * counter[0];
        const uint64_t product_1 = static_cast<uint64_t>(MULTIPLIER_1) * counter[2];
        const uint32_t next_0 = static_cast<uint32_t>(product_1 >> 32) ^ counter[1] ^ key_0;
        const uint32_t next_2 = static_cast<uint32_t>(product_0 >> 32) ^ counter[3] ^ key_1;
        counter[0] = next_0;
        counter[1] = static_cast<uint32_t>(product_1);
        counter[2] = next_2;
        counter[3] = static_cast<uint32_t>(product_0);
        key_0 += STEP_0;
        key_1 += STEP_1;
    }
}

// Two words to two normal numbers, as curand's _curand_box_muller rounds.
__device__ __forceinline__ void box_muller(float &sine, float &cosine, uint32_t radius_word,
                                           uint32_t angle_word) {
    constexpr float UNIT = 2.3283064e-10f; // 2^-32
    constexpr float ANGLE = 2.3283064e-10f * 6.2831855f;
    const float uniform = __fmaf_rn(__uint2float_rn(radius_word), UNIT, UNIT / 2);
    const float angle = __fmaf_rn(__uint2float_rn(angle_word), ANGLE, ANGLE / 2);
    const float radius = sqrtf(-2.0f * logf(uniform));
    __sincosf(angle, &sine, &cosine);
    sine *= radius;
    cosine *= radius;
}

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
            box_muller(normals[2], normals[3], words[2], words[3]);
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const int64_t index = first + i * draw_threads;
                if (index < count) {
                    // PyTorch ends with `* std + mean`, here 1 and 0, which turns -0 into 0.
                    const float normal = __fadd_rn(normals[i], 0.0f);
                    params.out[index] =
                        params.round_to_bf16 != 0 ? round_to_bf16(normal) : normal;
                }
            }
            ++draw;
        }
    }
}
