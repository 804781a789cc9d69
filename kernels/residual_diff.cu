/* d = mean |reference - (after - before)| / mean |reference|, the table of spec dualcache 4 (tests
   4 to 12) and 6 on it, and what it came to. Oracles: src/ops/cpu/residual_diff.rs for d,
   src/ops/residual_diff/rule.rs for the table; launcher: src/ops/cuda/residual_diff.rs.

   Entry residual_diff: 256 threads, no dynamic shared memory; launches of a module follow one
   another. Grid (blocks), at most 528 and a function of n alone: sums do not depend on the card.
   A block sums a run of elements in f32; the block that finishes last adds the blocks' sums in
   order, in f64, and its first thread decides. At step 0 nothing of `reference` is read; at or past
   the last step the decision is 0 and nothing else is written. */

#include "common/last_block.cuh"
#include "common/reduce.cuh"
#include "common/vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

constexpr int RESIDUAL_DIFF_THREADS = 256;
// Vectors of each of the three tensors that a thread loads before it handles the first.
constexpr int RESIDUAL_DIFF_BATCH = 2;

// 16-byte accesses where n is a multiple of 8 and the bf16 pointers are 16-byte aligned.
struct ResidualDiffParams {
    const __nv_bfloat16 *reference; // [count]
    const __nv_bfloat16 *before;    // [count]
    const __nv_bfloat16 *after;     // [count]
    const uint32_t *step;           // [1]
    const uint32_t *limits;         // [8], see Limits
    const uint32_t *replay;         // [steps]: 0 as the table says, 1 computed, 2 hit
    uint32_t *counters;             // [8], see Counters
    uint32_t *decision;             // [1]: 1 is hit, 0 is compute
    uint32_t *reasons;              // [steps]
    float *diffs;                   // [steps]
    float2 *sums;                   // [blocks]: of |reference - r|, of |reference|
    int32_t count;                  // n, 0 or more
    int32_t steps;
};
static_assert(sizeof(ResidualDiffParams) == 96, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, reference) == 0, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, before) == 8, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, after) == 16, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, step) == 24, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, limits) == 32, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, replay) == 40, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, counters) == 48, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, decision) == 56, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, reasons) == 64, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, diffs) == 72, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, sums) == 80, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, count) == 88, "mirrored by the launcher");
static_assert(offsetof(ResidualDiffParams, steps) == 92, "mirrored by the launcher");

// Blocks of this launch that are done; 0 between launches.
__device__ uint32_t residual_diff_blocks_done;

// No limit.
constexpr uint32_t UNLIMITED = 0xffffffffu;
// Added to the reason in the log where a difference is recorded.
constexpr uint32_t RECORDED = 0x100;
// Word of the limits that says where to round.
constexpr int ROUNDING_WORD = 7;

// `Reason` of src/ops/residual_diff/rule.rs, those that are decided here.
enum Reason : uint32_t {
    MaxCached = 4,
    Forced = 5,
    Accumulated = 6,
    NoThreshold = 7,
    NoReference = 8,
    Hit = 9,
    Miss = 10,
};

__device__ __forceinline__ double read_f64(const uint32_t *words) {
    return __hiloint2double(static_cast<int>(words[1]), static_cast<int>(words[0]));
}

// `Limits` of rule.rs.
struct Limits {
    double threshold, max_accumulated; // max_accumulated 0: no limit
    uint32_t max_cached, max_continuous;
    bool streak;

    __device__ __forceinline__ explicit Limits(const uint32_t *words)
        : threshold(read_f64(words)), max_accumulated(read_f64(words + 2)), max_cached(words[4]),
          max_continuous(words[5]), streak(words[6] == 1) {}
};

// `Counters` of rule.rs.
struct Counters {
    double accumulated;
    uint32_t continuous;
    uint32_t after_hit; // 1 + the last hit's step; 0: there was none
    uint32_t hits;

    __device__ __forceinline__ explicit Counters(const uint32_t *words)
        : accumulated(read_f64(words)), continuous(words[2]), after_hit(words[3]), hits(words[4]) {}

    __device__ __forceinline__ void store(uint32_t *words) const {
        words[0] = static_cast<uint32_t>(__double2loint(accumulated));
        words[1] = static_cast<uint32_t>(__double2hiint(accumulated));
        words[2] = continuous;
        words[3] = after_hit;
        words[4] = hits;
    }

    __device__ __forceinline__ void count_hit(bool streak, uint32_t step) {
        if (streak || after_hit == 0) {
            ++continuous;
        } else if (after_hit == step) {
            // The hit before, which was isolated, counts too.
            continuous = continuous == 0 ? 2 : continuous + 1;
        }
        after_hit = step + 1;
        ++hits;
    }
};

// What a step came to; `diff` counts only where it is `recorded`.
struct Verdict {
    Reason reason;
    bool recorded;
    float diff;
};

// Tests 4 to 12. `compared` is whether there is a difference.
__device__ __forceinline__ Verdict table(const Limits &limits, const Counters &counters,
                                         bool compared, float diff) {
    if (limits.max_cached != UNLIMITED && counters.hits >= limits.max_cached) {
        return {MaxCached, false, 0.0f};
    }
    if (limits.max_continuous != UNLIMITED && counters.continuous >= limits.max_continuous) {
        return {Forced, false, 0.0f};
    }
    if (limits.max_accumulated > 0.0 && counters.accumulated >= limits.max_accumulated) {
        return {Accumulated, false, 0.0f};
    }
    if (limits.threshold <= 0.0) {
        return {NoThreshold, false, 0.0f};
    }
    if (!compared) {
        return {NoReference, false, 0.0f};
    }
    if (limits.threshold >= 1.0) {
        return {Hit, true, -1.0f};
    }
    // NaN, of a reference that is 0 everywhere, is no hit.
    const bool hit = static_cast<double>(diff) < limits.threshold;
    return {hit ? Hit : Miss, true, diff};
}

// `Counters::decide` of rule.rs.
__device__ __forceinline__ Verdict decide(const Limits &limits, Counters &counters, uint32_t step,
                                          uint32_t replay, float diff) {
    if (limits.streak && (counters.after_hit == 0 || counters.after_hit != step)) {
        counters.continuous = 0;
    }
    Verdict verdict = table(limits, counters, step > 0, diff);
    if (verdict.recorded && verdict.diff > 0.0f) {
        counters.accumulated += static_cast<double>(verdict.diff);
    }
    if (replay != 0 && (replay == 2) != (verdict.reason == Hit)) {
        verdict.reason = replay == 2 ? Hit : Miss;
    }
    if (verdict.reason == Hit) {
        counters.count_hit(limits.streak, step);
    } else if (verdict.reason == Forced && !limits.streak) {
        counters.continuous = 0;
    }
    return verdict;
}

// Sums of |reference - r| and of |reference|, r = after - before.
struct Moved {
    float difference = 0.0f, reference = 0.0f;

    template <bool ROUND, int WIDTH>
    __device__ __forceinline__ void add(const float (&reference_values)[WIDTH],
                                        const float (&before)[WIDTH], const float (&after)[WIDTH]) {
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const float moved = reference_values[i] - round_to_bf16(after[i] - before[i]);
            difference += fabsf(ROUND ? round_to_bf16(moved) : moved);
            reference += fabsf(reference_values[i]);
        }
    }
};

// WIDTH bf16 values as they lie in memory.
template <int WIDTH> struct RawValues;

template <> struct RawValues<8> {
    uint4 raw;

    __device__ __forceinline__ void load(const __nv_bfloat16 *source) { raw = load_raw_8(source); }
    __device__ __forceinline__ void unpack(float (&values)[8]) const { unpack_8(values, raw); }
};

template <> struct RawValues<1> {
    __nv_bfloat16 raw;

    __device__ __forceinline__ void load(const __nv_bfloat16 *source) { raw = *source; }
    __device__ __forceinline__ void unpack(float (&values)[1]) const {
        values[0] = __bfloat162float(raw);
    }
};

// This thread's sums over its block's run of elements. Loads have no conditions, so that all of a
// batch are under way before the first is waited for: behind the run's end its last vector is
// loaded again, and where there is no reference, `before` in its place.
template <int WIDTH>
__device__ __forceinline__ Moved sum_elements(const ResidualDiffParams &params, uint32_t step) {
    constexpr int BATCH = RESIDUAL_DIFF_BATCH;
    const uint32_t vectors = static_cast<uint32_t>(params.count) / WIDTH;
    const uint32_t run = (vectors + gridDim.x - 1) / gridDim.x;
    const uint32_t start = min(blockIdx.x * run, vectors);
    const uint32_t end = min(start + run, vectors);
    const __nv_bfloat16 *const old = step == 0 ? params.before : params.reference;
    Moved sums;
    for (uint32_t first = start + threadIdx.x; first < end;
         first += BATCH * RESIDUAL_DIFF_THREADS) {
        RawValues<WIDTH> before[BATCH], after[BATCH], reference[BATCH];
        // The last to be asked for are those that wait for the step.
        int64_t offsets[BATCH];
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            offsets[b] =
                WIDTH * static_cast<int64_t>(min(first + b * RESIDUAL_DIFF_THREADS, end - 1));
            before[b].load(params.before + offsets[b]);
            after[b].load(params.after + offsets[b]);
        }
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            reference[b].load(old + offsets[b]);
        }
        const bool round = params.limits[ROUNDING_WORD] != 1;
#pragma unroll
        for (int b = 0; b < BATCH; ++b) {
            if (first + b * RESIDUAL_DIFF_THREADS < end) {
                float of_before[WIDTH], of_after[WIDTH], of_reference[WIDTH];
                before[b].unpack(of_before);
                after[b].unpack(of_after);
                reference[b].unpack(of_reference);
                if (round) {
                    sums.add<true>(of_reference, of_before, of_after);
                } else {
                    sums.add<false>(of_reference, of_before, of_after);
                }
            }
        }
    }
    return sums;
}

// The relative difference, from the sums of all blocks; the same in all threads of the block.
__device__ __forceinline__ float relative_difference(const ResidualDiffParams &params, bool round) {
    __shared__ double differences[RESIDUAL_DIFF_THREADS / 32];
    __shared__ double references[RESIDUAL_DIFF_THREADS / 32];
    double difference = 0.0, reference = 0.0;
    for (uint32_t block = threadIdx.x; block < gridDim.x; block += RESIDUAL_DIFF_THREADS) {
        // Past L1, which knows nothing of what other multiprocessors wrote.
        const float2 sums = __ldcg(params.sums + block);
        difference += sums.x;
        reference += sums.y;
    }
    difference = block_sum<RESIDUAL_DIFF_THREADS>(difference, differences);
    reference = block_sum<RESIDUAL_DIFF_THREADS>(reference, references);
    const double count = params.count;
    float mean_difference = static_cast<float>(difference / count);
    float mean_reference = static_cast<float>(reference / count);
    if (round) {
        mean_difference = round_to_bf16(mean_difference);
        mean_reference = round_to_bf16(mean_reference);
    }
    const float quotient = mean_difference / mean_reference;
    return round ? round_to_bf16(quotient) : quotient;
}

// The last block's work.
__device__ __forceinline__ void finish(const ResidualDiffParams &params, uint32_t step) {
    // Loaded before the sums are: each is a way to memory and back.
    const Limits limits(params.limits);
    const bool round = params.limits[ROUNDING_WORD] != 1;
    Counters counters(params.counters);
    const uint32_t replay = params.replay[step];
    const float diff = relative_difference(params, round);
    if (threadIdx.x == 0) {
        const Verdict verdict = decide(limits, counters, step, replay, diff);
        *params.decision = verdict.reason == Hit ? 1 : 0;
        counters.store(params.counters);
        params.reasons[step] = verdict.reason | (verdict.recorded ? RECORDED : 0);
        params.diffs[step] = verdict.recorded ? verdict.diff : 0.0f;
    }
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(flux_rt::RESIDUAL_DIFF_THREADS, 4)
    residual_diff(const __grid_constant__ flux_rt::ResidualDiffParams params) {
    using namespace flux_rt;
    __shared__ float differences[RESIDUAL_DIFF_THREADS / 32];
    __shared__ float references[RESIDUAL_DIFF_THREADS / 32];
    __shared__ bool is_last;
    const uint32_t step = *params.step;
    const bool vectors =
        multiples_of_8(params.count) && aligned_16(params.reference, params.before, params.after);
    Moved sums = vectors ? sum_elements<8>(params, step) : sum_elements<1>(params, step);
    if (step >= static_cast<uint32_t>(params.steps)) {
        if (blockIdx.x == 0 && threadIdx.x == 0) {
            *params.decision = 0;
        }
        return;
    }
    sums.difference = block_sum<RESIDUAL_DIFF_THREADS>(sums.difference, differences);
    sums.reference = block_sum<RESIDUAL_DIFF_THREADS>(sums.reference, references);
    if (threadIdx.x == 0) {
        params.sums[blockIdx.x] = make_float2(sums.difference, sums.reference);
        is_last = is_last_block(residual_diff_blocks_done);
    }
    __syncthreads();
    if (is_last) {
        finish(params, step);
    }
}
