/* latents [n] += (sigmas[step + 1] - sigmas[step]) * velocity [n], then step += 1: spec flux 4.3.
   Oracle: src/ops/cpu/euler_step.rs, launcher: src/ops/cuda/euler_step.rs.

   Entry euler_step: grid (ceil(n / 2048), at least 1), 256 threads, no dynamic shared memory;
   launches of a module follow one another. At or past the last step it does nothing. */

#include "common/last_block.cuh"
#include "common/vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// 16-byte accesses where n is a multiple of 8 and the bf16 pointers are 16-byte aligned.
struct EulerStepParams {
    __nv_bfloat16 *latents;        // [count], read and written
    const __nv_bfloat16 *velocity; // [count]
    const float *sigmas;           // [steps + 1]
    uint32_t *step;                // [1]
    int32_t count;                 // n, 0 or more
    int32_t steps;
    int32_t round_like_diffusers; // not 0: sigma difference, product and sum are rounded to bf16;
                                  // 0: f32 operations, not fused, and the sum is rounded
    int32_t reserved;             // 0
};
static_assert(sizeof(EulerStepParams) == 48, "mirrored by the launcher");
static_assert(offsetof(EulerStepParams, latents) == 0, "mirrored by the launcher");
static_assert(offsetof(EulerStepParams, velocity) == 8, "mirrored by the launcher");
static_assert(offsetof(EulerStepParams, sigmas) == 16, "mirrored by the launcher");
static_assert(offsetof(EulerStepParams, step) == 24, "mirrored by the launcher");
static_assert(offsetof(EulerStepParams, count) == 32, "mirrored by the launcher");
static_assert(offsetof(EulerStepParams, steps) == 36, "mirrored by the launcher");
static_assert(offsetof(EulerStepParams, round_like_diffusers) == 40, "mirrored by the launcher");
static_assert(offsetof(EulerStepParams, reserved) == 44, "mirrored by the launcher");

// Blocks of this launch that are done; 0 between launches.
__device__ uint32_t euler_step_blocks_done;

// The last block to finish increments the counter: by then all have read it.
__device__ __forceinline__ void count_step(const EulerStepParams &params, uint32_t step) {
    __syncthreads();
    if (threadIdx.x == 0 && is_last_block(euler_step_blocks_done)) {
        *params.step = step + 1;
    }
}

// The difference of the noise levels of a step before the last level.
__device__ __forceinline__ float level_difference(const EulerStepParams &params, uint32_t step) {
    const float difference = params.sigmas[step + 1] - params.sigmas[step];
    return params.round_like_diffusers != 0 ? round_to_bf16(difference) : difference;
}

// Loads latents and velocity before it waits for the counter and the noise levels: each is a way to
// memory and back.
template <int WIDTH>
__device__ __forceinline__ void advance_latents(const EulerStepParams &params, uint32_t step) {
    constexpr int THREADS = 256;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * THREADS * 8;
    const bool round = params.round_like_diffusers != 0;
#pragma unroll
    for (int part = 0; part < 8 / WIDTH; ++part) {
        const int64_t index = first + (part * THREADS + static_cast<int>(threadIdx.x)) * WIDTH;
        if (index >= params.count) {
            return;
        }
        float latents[WIDTH], velocity[WIDTH];
        load(latents, params.latents + index);
        load(velocity, params.velocity + index);
        if (step >= static_cast<uint32_t>(params.steps)) {
            return;
        }
        const float dt = level_difference(params, step);
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const float product = __fmul_rn(dt, velocity[i]);
            latents[i] = __fadd_rn(latents[i], round ? round_to_bf16(product) : product);
        }
        store(params.latents + index, latents);
    }
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(256)
    euler_step(const __grid_constant__ flux_rt::EulerStepParams params) {
    using namespace flux_rt;
    const uint32_t step = *params.step;
    if (multiples_of_8(params.count) && aligned_16(params.latents, params.velocity)) {
        advance_latents<8>(params, step);
    } else {
        advance_latents<1>(params, step);
    }
    if (step < static_cast<uint32_t>(params.steps)) {
        count_step(params, step);
    }
}
