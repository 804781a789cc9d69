// Online softmax over the sums of a warpgroup's products, in powers of two and f32
// (FlashAttention-2, arXiv 2307.08691, algorithm 1). Lane 4 g + q of a warp has the rows g and g +
// 8 of its 16, and the four lanes of one g, a quad, share a row: sums as in wgmma.cuh.
#pragma once

#include "../softmax.cuh"

#include <cmath>
#include <cstdint>

namespace flux_rt {

// Minus infinity for the scores of keys from `keys` on, counted from the tile's first.
template <int COUNT>
__device__ __forceinline__ void hide_keys_from(float (&scores)[COUNT], int keys) {
    const int key = threadIdx.x % 4 * 2;
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        scores[i] = key + i / 4 * 8 + i % 2 < keys ? scores[i] : -INFINITY;
    }
}

// The maxima of this lane's rows over all lanes' scores, times `unit`.
template <int COUNT>
__device__ __forceinline__ void row_maxima(float (&highest)[2], const float (&scores)[COUNT],
                                           float unit) {
    static_assert(COUNT % 8 == 0, "two chains of maxima a row");
    float high[4] = {scores[0], scores[2], scores[4], scores[6]};
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        float &chain = high[i / 4 % 2 * 2 + i / 2 % 2];
        chain = fmaxf(chain, scores[i]);
    }
    highest[0] = quad_max(fmaxf(high[0], high[2])) * unit;
    highest[1] = quad_max(fmaxf(high[1], high[3])) * unit;
}

// The running state of this lane's two rows.
struct HopperSoftmax {
    float reference[2]; // the exponent that probabilities are relative to
    float sum[2];       // of this lane's columns only
    float factor[2];    // by which the last raise() lowered what was summed before

    // Forgets the rows before the first block of new ones.
    __device__ __forceinline__ void reset() {
        reference[0] = reference[1] = -INFINITY;
        sum[0] = sum[1] = 0.0f;
    }

    // Takes in the maxima of a block of scores, which count `unit` each. If a reference lags too
    // far behind, raises those of the whole warp, rescales the sums and returns true: the caller
    // then multiplies its output by `factor`.
    template <int COUNT>
    __device__ __forceinline__ bool raise(const float (&scores)[COUNT], float unit) {
        float highest[2];
        row_maxima(highest, scores, unit);
        const bool lags = highest[0] > reference[0] + Bf16Probabilities::MAX_LAG ||
                          highest[1] > reference[1] + Bf16Probabilities::MAX_LAG;
        if (!__any_sync(~0u, lags)) {
            return false;
        }
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            const float raised = fmaxf(reference[row], highest[row]);
            factor[row] = exp2_approx(reference[row] - raised);
            reference[row] = raised;
            sum[row] *= factor[row];
        }
        return true;
    }

    // Scores become probabilities 2^(unit * score - reference), summed before they are rounded.
    template <int COUNT>
    __device__ __forceinline__ void exponentiate(float (&scores)[COUNT], float unit) {
        float sums[4] = {sum[0], sum[1], 0.0f, 0.0f};
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            scores[i] = exp2_approx(fmaf(scores[i], unit, -reference[i / 2 % 2]));
            sums[i / 4 % 2 * 2 + i / 2 % 2] += scores[i];
        }
        sum[0] = sums[0] + sums[2];
        sum[1] = sums[1] + sums[3];
    }

    // The whole row's sum.
    __device__ __forceinline__ float row_sum(int row) const { return quad_sum(sum[row]); }

    // Left alone, ptxas moves a later wait for products up to before nearly all exponentials, which
    // then would not overlap those products. It does not move the wait over an instruction with
    // side effects, and this one, which is never executed, needs all of them.
    __device__ __forceinline__ void finish_before_waiting() const {
        asm volatile("{\n"
                     ".reg .pred never;\n"
                     "setp.lt.f32 never, %0, 0f00000000;\n"
                     "@never nanosleep.u32 1;\n"
                     "}" ::"f"(sum[0] + sum[1])
                     : "memory");
    }
};

// Multiplies the sums of this lane's rows.
template <int COUNT>
__device__ __forceinline__ void scale_rows(float (&sums)[COUNT], const float (&factor)[2]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) {
        sums[i] *= factor[i / 2 % 2];
    }
}

} // namespace flux_rt
