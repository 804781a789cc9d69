// Online softmax over score tiles in mma accumulators, in powers of two and f32 (FlashAttention-2,
// arXiv 2307.08691, algorithm 1). A warp holds two tiles of 16 rows; with lane = 4 g + q a lane has
// rows g and g + 8 of each, and the four lanes of one g, a quad, share a row.
// Partner: attention_tile.cuh.
#pragma once

#include <cmath>
#include <cstdint>

namespace flux_rt {

constexpr float LOG2_E = 1.44269504088896340736f;

// What probabilities are rounded to before the second product. A row's reference exponent may lag
// behind its true maximum by MAX_LAG powers of two before sum and output are rescaled: the rescale
// runs in the first few blocks instead of in nearly all. Then `reference` of the maximum is the new
// one.
struct Bf16Probabilities {
    // They reach 2^8 instead of 1, which costs a floating format no precision.
    static constexpr float MAX_LAG = 8.0f;
    static constexpr bool SUMMED = true; // by exponentiate(); else by who rounds them

    __device__ static __forceinline__ float reference(float highest) { return highest; }
};

// e4m3 reaches from 2^-10, below which a probability counts as nothing, to 448: references lie 4
// below the maximum, as the oracle's, and are integers, so that rescaling is exact.
struct E4m3Probabilities {
    static constexpr float MAX_LAG = 8.75f; // log2 of what rounds to at most 448
    static constexpr bool SUMMED = false;

    __device__ static __forceinline__ float reference(float highest) {
        return ceilf(highest) - 4.0f;
    }
};

// 2^x, error at most 2 ulp; 0 for minus infinity.
__device__ __forceinline__ float exp2_approx(float x);

#ifndef FLUX_RT_HOST_EMULATION // a host emulation of the kernels brings its own bodies

__device__ __forceinline__ float exp2_approx(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#endif

// Maximum over the quad, in all its lanes.
__device__ __forceinline__ float quad_max(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

// Sum over the quad, the same bits in all its lanes.
__device__ __forceinline__ float quad_sum(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

// Row maxima of `unit` times a tile of scores over this warp's columns: [row tile][row g or g + 8].
template <int TILES>
__device__ __forceinline__ void row_max(float (&highest)[2][2], const float (&scores)[2][TILES][4],
                                        float unit) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int tile = i / 2, half = i % 2;
        float high = -INFINITY;
#pragma unroll
        for (int n = 0; n < TILES; ++n) {
            high = fmaxf(high, fmaxf(scores[tile][n][2 * half], scores[tile][n][2 * half + 1]));
        }
        highest[tile][half] = quad_max(high) * unit;
    }
}

// The running state of this lane's rows: [row tile][row g or g + 8].
template <class Probabilities> struct SoftmaxRows {
    float reference[2][2]; // the exponent that probabilities are relative to
    float sum[2][2];       // of this lane's columns only, if SUMMED

    __device__ __forceinline__ SoftmaxRows() {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            reference[i / 2][i % 2] = -INFINITY;
            sum[i / 2][i % 2] = 0.0f;
        }
    }

    // Takes in the maxima `highest` of a new block. If a reference lags too far behind, raises all
    // of the warp's and rescales what was summed under them; the vote keeps the branch uniform.
    template <int TILES>
    __device__ __forceinline__ void raise(const float (&highest)[2][2], float (&out)[2][TILES][4]) {
        bool lags = false;
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            lags |= highest[i / 2][i % 2] > reference[i / 2][i % 2] + Probabilities::MAX_LAG;
        }
        if (!__any_sync(~0u, lags)) {
            return;
        }
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int tile = i / 2, half = i % 2;
            const float raised =
                fmaxf(reference[tile][half], Probabilities::reference(highest[tile][half]));
            const float factor = exp2_approx(reference[tile][half] - raised);
            reference[tile][half] = raised;
            sum[tile][half] *= factor;
#pragma unroll
            for (int n = 0; n < TILES; ++n) {
                out[tile][n][2 * half] *= factor;
                out[tile][n][2 * half + 1] *= factor;
            }
        }
    }

    // Scores become probabilities 2^(unit * score - reference), if SUMMED summed as they are.
    template <int TILES>
    __device__ __forceinline__ void exponentiate(float (&scores)[2][TILES][4], float unit) {
#pragma unroll
        for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
            for (int n = 0; n < TILES; ++n) {
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const float exponent = fmaf(scores[tile][n][e], unit, -reference[tile][e / 2]);
                    scores[tile][n][e] = exp2_approx(exponent);
                    if (Probabilities::SUMMED) {
                        sum[tile][e / 2] += scores[tile][n][e];
                    }
                }
            }
        }
    }

    // From this lane's columns to its quad's.
    __device__ __forceinline__ void add_quad_sums() {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            sum[i / 2][i % 2] = quad_sum(sum[i / 2][i % 2]);
        }
    }

    // The output, divided by whole rows' sums.
    template <int TILES> __device__ __forceinline__ void divide(float (&out)[2][TILES][4]) const {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
            const int tile = i / 2, half = i % 2;
            const float inverse = 1.0f / sum[tile][half];
#pragma unroll
            for (int n = 0; n < TILES; ++n) {
                out[tile][n][2 * half] *= inverse;
                out[tile][n][2 * half + 1] *= inverse;
            }
        }
    }
};

} // namespace flux_rt
