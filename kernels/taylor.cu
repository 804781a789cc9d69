/* TaylorSeer, spec dualcache 13.1. Y [orders, R D] are difference quotients of the effect of
   skipped blocks; clock holds the last computed step and how many of the quotients there are.
     taylor_update    Z0 = after - before; Zi+1 = (Zi - Yi) / (step - last); Y = Z
     taylor_forecast  out = before + sum of Yi (step - last)^i / i!
   Oracles: src/ops/cpu/taylor.rs, launchers: src/ops/cuda/taylor.rs.

   Both: grid (ceil(n / 2048), at least 1), 256 threads, no dynamic shared memory; launches of a
   module follow one another. */

#include "common/last_block.cuh"
#include "common/vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

constexpr int TAYLOR_THREADS = 256;
// Elements of a block.
constexpr int TAYLOR_EACH = TAYLOR_THREADS * 8;
// Quotients at most, the effect itself being the first.
constexpr uint32_t TAYLOR_ORDERS = 3;
// The first step at which a difference quotient is taken.
constexpr uint32_t FIRST_QUOTIENT_STEP = 3;

// Both structs: 16-byte accesses where counts are multiples of 8 and pointers 16-byte aligned.
struct TaylorUpdateParams {
    __nv_bfloat16 *quotients;    // [orders, count]
    const __nv_bfloat16 *before; // [count]
    const __nv_bfloat16 *after;  // [count]
    uint32_t *clock;             // [2]: last step, known quotients; read and written
    const uint32_t *step;        // [1]
    int32_t count;               // R D
    int32_t orders;              // 1 to 3
};
static_assert(sizeof(TaylorUpdateParams) == 48, "mirrored by the launcher");
static_assert(offsetof(TaylorUpdateParams, quotients) == 0, "mirrored by the launcher");
static_assert(offsetof(TaylorUpdateParams, before) == 8, "mirrored by the launcher");
static_assert(offsetof(TaylorUpdateParams, after) == 16, "mirrored by the launcher");
static_assert(offsetof(TaylorUpdateParams, clock) == 24, "mirrored by the launcher");
static_assert(offsetof(TaylorUpdateParams, step) == 32, "mirrored by the launcher");
static_assert(offsetof(TaylorUpdateParams, count) == 40, "mirrored by the launcher");
static_assert(offsetof(TaylorUpdateParams, orders) == 44, "mirrored by the launcher");

struct TaylorForecastParams {
    __nv_bfloat16 *out;             // [count]; not `before`
    const __nv_bfloat16 *before;    // [count]
    const __nv_bfloat16 *quotients; // the first one's first row of interest
    const uint32_t *clock;          // [2]: last step, known quotients
    const uint32_t *step;           // [1]
    int32_t count;                  // elements of the rows of interest
    int32_t order_stride;           // elements from a quotient to the next: R D
};
static_assert(sizeof(TaylorForecastParams) == 48, "mirrored by the launcher");
static_assert(offsetof(TaylorForecastParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(TaylorForecastParams, before) == 8, "mirrored by the launcher");
static_assert(offsetof(TaylorForecastParams, quotients) == 16, "mirrored by the launcher");
static_assert(offsetof(TaylorForecastParams, clock) == 24, "mirrored by the launcher");
static_assert(offsetof(TaylorForecastParams, step) == 32, "mirrored by the launcher");
static_assert(offsetof(TaylorForecastParams, count) == 40, "mirrored by the launcher");
static_assert(offsetof(TaylorForecastParams, order_stride) == 44, "mirrored by the launcher");

// Blocks of this launch of taylor_update that are done; 0 between launches.
__device__ uint32_t taylor_blocks_done;

// Quotients that there are after this update: one needs the one below it of the step before.
__device__ __forceinline__ uint32_t fresh_quotients(uint32_t step, uint32_t known, int orders) {
    const uint32_t most = static_cast<uint32_t>(orders);
    return step >= FIRST_QUOTIENT_STEP ? min(most, known + 1) : min(most, 1u);
}

// Takes in WIDTH elements from `index` on. What all need is loaded before `clock` and `step`, of
// which `fresh` and `gap` are made, have to be there: each is a way to memory and back.
template <int WIDTH>
__device__ __forceinline__ void update_elements(const TaylorUpdateParams &params, int64_t index,
                                                uint32_t fresh, uint32_t gap) {
    float value[WIDTH], before[WIDTH], old[TAYLOR_ORDERS - 1][WIDTH];
    load(before, params.before + index);
    load(value, params.after + index);
#pragma unroll
    for (uint32_t order = 0; order + 1 < TAYLOR_ORDERS; ++order) {
        if (order + 1 < fresh) {
            load(old[order], params.quotients + order * static_cast<int64_t>(params.count) + index);
        }
    }
    const float inverse_gap = 1.0f / static_cast<float>(gap);
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
        // The effect is a tensor of bf16 wherever it is kept.
        value[i] = round_to_bf16(value[i] - before[i]);
    }
#pragma unroll
    for (uint32_t order = 0; order < TAYLOR_ORDERS; ++order) {
        if (order >= fresh) {
            return;
        }
        store(params.quotients + order * static_cast<int64_t>(params.count) + index, value);
        if (order + 1 < TAYLOR_ORDERS) {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                value[i] = (value[i] - old[order][i]) * inverse_gap;
            }
        }
    }
}

template <int WIDTH>
__device__ __forceinline__ void update(const TaylorUpdateParams &params, uint32_t fresh,
                                       uint32_t gap) {
    const int64_t first = static_cast<int64_t>(blockIdx.x) * TAYLOR_EACH;
#pragma unroll 1
    for (int part = 0; part < 8 / WIDTH; ++part) {
        const int64_t index =
            first + (part * TAYLOR_THREADS + static_cast<int>(threadIdx.x)) * WIDTH;
        if (index < params.count) {
            update_elements<WIDTH>(params, index, fresh, gap);
        }
    }
}

// Of the effect and its two quotients: e^i / i!.
struct TaylorFactors {
    float of[TAYLOR_ORDERS];

    __device__ __forceinline__ TaylorFactors(float elapsed)
        : of{1.0f, elapsed, elapsed * (elapsed / 2.0f)} {}
};

template <int WIDTH>
__device__ __forceinline__ void forecast(const TaylorForecastParams &params, uint32_t known,
                                         const TaylorFactors &factors) {
    const int64_t first = static_cast<int64_t>(blockIdx.x) * TAYLOR_EACH;
#pragma unroll 1
    for (int part = 0; part < 8 / WIDTH; ++part) {
        const int64_t index =
            first + (part * TAYLOR_THREADS + static_cast<int>(threadIdx.x)) * WIDTH;
        if (index >= params.count) {
            return;
        }
        float value[WIDTH], quotients[TAYLOR_ORDERS][WIDTH];
        load(value, params.before + index);
#pragma unroll
        for (uint32_t order = 0; order < TAYLOR_ORDERS; ++order) {
            if (order < known) {
                load(quotients[order],
                     params.quotients + order * static_cast<int64_t>(params.order_stride) + index);
            }
        }
#pragma unroll
        for (uint32_t order = 0; order < TAYLOR_ORDERS; ++order) {
            if (order < known) {
#pragma unroll
                for (int i = 0; i < WIDTH; ++i) {
                    value[i] += factors.of[order] * quotients[order][i];
                }
            }
        }
        store(params.out + index, value);
    }
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(flux_rt::TAYLOR_THREADS)
    taylor_update(const __grid_constant__ flux_rt::TaylorUpdateParams params) {
    using namespace flux_rt;
    const uint32_t step = *params.step, last = params.clock[0];
    const uint32_t fresh = fresh_quotients(step, params.clock[1], params.orders);
    const uint32_t gap = step - last;
    if (multiples_of_8(params.count) && aligned_16(params.quotients, params.before, params.after)) {
        update<8>(params, fresh, gap);
    } else {
        update<1>(params, fresh, gap);
    }
    // The last block to finish sets the clock: by then all have read it.
    __syncthreads();
    if (threadIdx.x == 0 && is_last_block(taylor_blocks_done)) {
        params.clock[0] = step;
        params.clock[1] = fresh;
    }
}

extern "C" __global__ void __launch_bounds__(flux_rt::TAYLOR_THREADS)
    taylor_forecast(const __grid_constant__ flux_rt::TaylorForecastParams params) {
    using namespace flux_rt;
    const uint32_t step = *params.step, last = params.clock[0], known = params.clock[1];
    const TaylorFactors factors(static_cast<float>(step - last));
    if (multiples_of_8(params.count, params.order_stride) &&
        aligned_16(params.out, params.before, params.quotients)) {
        forecast<8>(params, known, factors);
    } else {
        forecast<1>(params, known, factors);
    }
}
