// Online softmax whose probabilities become e4m3: attention_softmax.cuh with another range, and
// sums from the tensor cores.
#pragma once

#include "../e4m3.cuh"
#include "attention_fp8_shape.cuh"
#include "attention_softmax.cuh"

#include <cmath>
#include <cstdint>

namespace flux_rt {

// The running state of this lane's two rows. A probability is 2^(unit * score - reference), between
// e4m3's 2^-10, below which it counts as nothing, and 2^8.75; all of a row have the same factor,
// which its sum has too. The higher a row's probabilities are, the more of its small ones keep
// their bits, and the sooner a larger score makes its reference rise: SHIFT chooses. References are
// integers, so that rescaling is exact.
template <class Shape> struct Fp8Softmax {
    static constexpr float HIGHEST = 8.75f; // log2 of what rounds to at most 448
    float reference[2];
    float sum[2];    // of the whole row, once a piece is done
    float factor[2]; // by which the last raise() lowered what was summed before

    // Forgets the rows before the first block of new ones.
    __device__ __forceinline__ void reset() { reference[0] = reference[1] = -INFINITY; }

    // As HopperSoftmax's.
    template <int COUNT>
    __device__ __forceinline__ bool raise(const float (&scores)[COUNT], float unit) {
        float highest[2];
        row_maxima(highest, scores, unit);
        const bool exceeds =
            highest[0] > reference[0] + HIGHEST || highest[1] > reference[1] + HIGHEST;
        if (!__any_sync(~0u, exceeds)) {
            return false;
        }
#pragma unroll
        for (int row = 0; row < 2; ++row) {
            const float raised = fmaxf(reference[row], ceilf(highest[row]) - Shape::SHIFT);
            factor[row] = exp2_approx(reference[row] - raised);
            reference[row] = raised;
        }
        return true;
    }

    // Scores become probabilities, packed as the second product takes them: with neighbouring sums
    // of the first, keys 8 apart, as V's are permuted in memory.
    template <int COUNT>
    __device__ __forceinline__ void exponentiate(uint32_t (&p)[COUNT / 16][4],
                                                 const float (&scores)[COUNT], float unit) {
#pragma unroll
        for (int i = 0; i < COUNT / 4; ++i) {
            const int first = i / 2 * 8 + i % 2 * 2, row = i % 2;
            float power[4];
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                const float score = scores[first + j % 2 * 4 + j / 2];
                const float exponent = fmaf(score, unit, -reference[row]);
                power[j] = exp2_approx(exponent);
            }
            p[i / 4][i % 4] = pack_e4m3(power[0], power[1], power[2], power[3]);
        }
    }

    // Takes the sums of whole rows from the sums of products with ones.
    template <int COUNT> __device__ __forceinline__ void take_sums(const float (&out)[COUNT]) {
        sum[0] = out[Shape::HEAD_DIM / 2];
        sum[1] = out[Shape::HEAD_DIM / 2 + 2];
    }

    __device__ __forceinline__ float row_sum(int row) const { return sum[row]; }
};

// As HopperSoftmax::finish_before_waiting: ptxas moves no later wait for products up to before
// these probabilities.
template <int STEPS>
__device__ __forceinline__ void finish_before_waiting(const uint32_t (&p)[STEPS][4]) {
    uint32_t all = 0;
#pragma unroll
    for (int i = 0; i < 4 * STEPS; ++i) {
        all |= p[i / 4][i % 4];
    }
    // Probabilities have no sign.
    asm volatile("{\n"
                 ".reg .pred never;\n"
                 "setp.lt.s32 never, %0, 0;\n"
                 "@never nanosleep.u32 1;\n"
                 "}" ::"r"(all)
                 : "memory");
}

} // namespace flux_rt
