// Philox 4x32-10 and the normal numbers that PyTorch makes of its words. Must be compiled without
// fast-math: logarithm and root are the accurate ones, sine and cosine the fast ones.
#pragma once

#include <cstdint>

namespace flux_rt {

// ROUNDS rounds over `counter` (Salmon et al., 2011): ten as PyTorch draws, seven already pass
// every test of the paper.
template <int ROUNDS = 10>
__device__ __forceinline__ void philox(uint32_t (&counter)[4], uint32_t key_0, uint32_t key_1) {
    constexpr uint32_t MULTIPLIER_0 = 0xd2511f53u, MULTIPLIER_1 = 0xcd9e8d57u;
    constexpr uint32_t STEP_0 = 0x9e3779b9u, STEP_1 = 0xbb67ae85u;
#pragma unroll
    for (int round = 0; round < ROUNDS; ++round) {
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
