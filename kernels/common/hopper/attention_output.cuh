// From a consumer's sums to the output: rows in bf16, or, of a tile that two blocks share, through
// global memory from one to the other.
#pragma once

#include "../bf16.cuh"
#include "attention_softmax.cuh"

#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// What one warp leaves for the same warp of another block: PARTIAL_VECTORS per lane, 32 lanes side
// by side, and a flag, which is 1 while the vectors are there and nobody has taken them.
struct PartialWarp {
    float4 *vectors;
    uint32_t *flag;
};

// Hands over the first 64 sums and the rows' state.
template <int COUNT, class Rows>
__device__ __forceinline__ void publish(const PartialWarp &to, const float (&out)[COUNT],
                                        const Rows &rows) {
    float4 *const mine = to.vectors + threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        __stcg(mine + 32 * i,
               make_float4(out[4 * i], out[4 * i + 1], out[4 * i + 2], out[4 * i + 3]));
    }
    __stcg(mine + 32 * 16,
           make_float4(rows.reference[0], rows.reference[1], rows.sum[0], rows.sum[1]));
    __threadfence();
    __syncwarp();
    if (threadIdx.x % 32 == 0) {
        asm volatile("st.release.gpu.global.u32 [%0], 1;" ::"l"(to.flag) : "memory");
    }
}

// Adds what another block has handed over, once it has.
template <int COUNT, class Rows>
__device__ __forceinline__ void take_over(const PartialWarp &from, float (&out)[COUNT],
                                          Rows &rows) {
    if (threadIdx.x % 32 == 0) {
        uint32_t there;
#ifdef FLUX_RT_SPIN_LIMIT
        const long long start = clock64();
#endif
        do {
#ifdef FLUX_RT_SPIN_LIMIT
            if (clock64() - start > FLUX_RT_SPIN_LIMIT) {
                __trap();
            }
#endif
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];"
                         : "=r"(there)
                         : "l"(from.flag)
                         : "memory");
        } while (there == 0);
        *from.flag = 0;
    }
    __syncwarp();
    __threadfence();
    const float4 *const theirs = from.vectors + threadIdx.x % 32;
    const float4 state = __ldcg(theirs + 32 * 16);
    const float reference[2] = {state.x, state.y}, sum[2] = {state.z, state.w};
    float keep[2], add[2];
#pragma unroll
    for (int row = 0; row < 2; ++row) {
        const float raised = fmaxf(rows.reference[row], reference[row]);
        keep[row] = exp2_approx(rows.reference[row] - raised);
        add[row] = exp2_approx(reference[row] - raised);
        rows.reference[row] = raised;
        rows.sum[row] = rows.sum[row] * keep[row] + sum[row] * add[row];
    }
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        const float4 four = __ldcg(theirs + 32 * i);
        out[4 * i] = out[4 * i] * keep[0] + four.x * add[0];
        out[4 * i + 1] = out[4 * i + 1] * keep[0] + four.y * add[0];
        out[4 * i + 2] = out[4 * i + 2] * keep[1] + four.z * add[1];
        out[4 * i + 3] = out[4 * i + 3] * keep[1] + four.w * add[1];
    }
}

// Lane q of a quad has word[r] for lane r; afterwards it has in word[r] what lane r had for it.
__device__ __forceinline__ void transpose_quad(uint32_t (&word)[4]) {
    const uint32_t lane = threadIdx.x;
#pragma unroll
    for (int step = 1; step <= 2; ++step) {
        const bool upper = (lane & step) != 0;
#pragma unroll
        for (int pair = 0; pair < 2; ++pair) {
            uint32_t &low = word[step == 1 ? 2 * pair : pair];
            uint32_t &high = word[step == 1 ? 2 * pair + 1 : pair + 2];
            const uint32_t got = __shfl_xor_sync(~0u, upper ? low : high, step);
            low = upper ? got : low;
            high = upper ? high : got;
        }
    }
}

// Divides by the whole rows' sums and stores a warp's 16 rows of 128 columns, the first of them at
// `out`, `stride` elements apart, as far as `rows_left` allows: 16 bytes a lane, 64 bytes a quad.
template <int COUNT, class Rows>
__device__ __forceinline__ void store_rows(__nv_bfloat16 *out, int64_t stride, int rows_left,
                                           const float (&sums)[COUNT], const Rows &rows) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
        float inverse; // 1 ulp off at most
        asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(inverse) : "f"(rows.row_sum(half)));
        const int row = lane / 4 + 8 * half;
        __nv_bfloat16 *const to = out + row * stride + lane % 4 * 8;
#pragma unroll
        for (int part = 0; part < 4; ++part) {
            uint32_t word[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                const float *const pair = &sums[16 * part + 4 * i + 2 * half];
                word[i] = pack_bf16(pair[0] * inverse, pair[1] * inverse);
            }
            transpose_quad(word);
            if (row < rows_left) {
                *reinterpret_cast<uint4 *>(to + 32 * part) =
                    make_uint4(word[0], word[1], word[2], word[3]);
            }
        }
    }
}

} // namespace flux_rt
