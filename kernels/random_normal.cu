/* out [n] = std * N(0, 1), rounded to bf16: weights of synthetic models. Elements 8 i to 8 i + 7
   are made of Philox counter (i, stream) under the seed, two of each word: its upper half gives the
   radius, its lower half the angle, which is as fine as bf16 shows. Oracle:
   src/ops/cpu/random_normal.rs, launcher: src/ops/cuda/random_normal.rs.

   Entry random_normal: grid (ceil(n / 2048)), 256 threads, no dynamic shared memory. */

#include "common/philox.cuh"
#include "common/vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

struct RandomNormalParams {
    __nv_bfloat16 *out; // [count], 16-byte aligned
    int64_t count;      // n; matrices of several billion weights exist
    uint32_t seed_low;  // of the 64-bit seed
    uint32_t seed_high; // likewise
    uint32_t stream;    // tensors of one seed differ in it
    float std;
};
static_assert(sizeof(RandomNormalParams) == 32, "mirrored by the launcher");
static_assert(offsetof(RandomNormalParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(RandomNormalParams, count) == 8, "mirrored by the launcher");
static_assert(offsetof(RandomNormalParams, seed_low) == 16, "mirrored by the launcher");
static_assert(offsetof(RandomNormalParams, seed_high) == 20, "mirrored by the launcher");
static_assert(offsetof(RandomNormalParams, stream) == 24, "mirrored by the launcher");
static_assert(offsetof(RandomNormalParams, std) == 28, "mirrored by the launcher");

// Two numbers of spread `std` from one word.
__device__ __forceinline__ void normal_pair(float &sine, float &cosine, uint32_t word, float std) {
    constexpr float UNIT = 1.0f / 65536.0f, ANGLE = 6.2831855f / 65536.0f;
    const float uniform = (static_cast<float>(word >> 16) + 0.5f) * UNIT;
    const float angle = (static_cast<float>(word & 0xffffu) + 0.5f) * ANGLE;
    const float square = -2.0f * __logf(uniform); // above 0, since uniform is below 1
    const float radius = std * square * rsqrtf(square);
    __sincosf(angle, &sine, &cosine);
    sine *= radius;
    cosine *= radius;
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(256)
    random_normal(const __grid_constant__ flux_rt::RandomNormalParams params) {
    using namespace flux_rt;
    const int64_t first = (static_cast<int64_t>(blockIdx.x) * 256 + threadIdx.x) * 8;
    if (first >= params.count) {
        return;
    }
    const uint64_t index = static_cast<uint64_t>(first / 8);
    uint32_t words[4] = {static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
                         params.stream, 0};
    philox<7>(words, params.seed_low, params.seed_high);
    float values[8];
#pragma unroll
    for (int word = 0; word < 4; ++word) {
        normal_pair(values[2 * word], values[2 * word + 1], words[word], params.std);
    }
    if (first + 8 <= params.count) {
        store(params.out + first, values);
        return;
    }
    for (int i = 0; first + i < params.count; ++i) {
        params.out[first + i] = __float2bfloat16_rn(values[i]);
    }
}
