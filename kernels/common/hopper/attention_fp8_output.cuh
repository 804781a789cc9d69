// From the sums of a consumer of the Hopper attention kernel for e4m3 operands to its output; bf16
// rows and tiles that two blocks share are in attention_output.cuh.
#pragma once

#include "../e4m3.cuh"
#include "attention_fp8_softmax.cuh"
#include "attention_output.cuh"

#include <cstdint>

namespace flux_rt {

// Multiplies the sums by the scales of their channels of V.
template <int COUNT>
__device__ __forceinline__ void scale_channels(float (&sums)[COUNT], const float *scales) {
    const float2 *const mine = reinterpret_cast<const float2 *>(scales) + threadIdx.x % 4;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        const float2 scale = __ldg(mine + 4 * i);
        sums[4 * i] *= scale.x;
        sums[4 * i + 1] *= scale.y;
        sums[4 * i + 2] *= scale.x;
        sums[4 * i + 3] *= scale.y;
    }
}

// What a value in e4m3 is multiplied by: means of V are smaller than V, and four times as large,
// more of them are normal.
constexpr float OUT_FACTOR = 4.0f;

// As store_rows, but in e4m3, times OUT_FACTOR; what is too large becomes 448.
template <int COUNT, class Rows>
__device__ __forceinline__ void store_rows_e4m3(uint8_t *out, int64_t stride, int rows_left,
                                                const float (&sums)[COUNT], const Rows &rows) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float inverse; // 1 ulp off at most
        asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(rows.row_sum(half)));
        const float factor = OUT_FACTOR * inverse;
        const int row = lane / 4 + 8 * half;
        uint8_t *const to = out + row * stride + lane % 4 * 16;
#pragma unroll
        for (int part = 0; part < 2; ++part) {
            // Two columns of the group 2 i, and of the next: after the transpose, a lane has those
            // of the groups 2 q and 2 q + 1 of all lanes.
            uint32_t word[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float *const low = &sums[32 * part + 8 * i + 2 * half], *const high = low + 4;
                word[i] =
                    pack_e4m3(low[0] * factor, low[1] * factor, high[0] * factor, high[1] * factor);
            }
            transpose_quad(word);
            if (row < rows_left) {
                *reinterpret_cast<uint4 *>(to + 64 * part) = make_uint4(
                    __byte_perm(word[0], word[1], 0x5410), __byte_perm(word[2], word[3], 0x5410),
                    __byte_perm(word[0], word[1], 0x7632), __byte_perm(word[2], word[3], 0x7632));
            }
        }
    }
}

} // namespace flux_rt
