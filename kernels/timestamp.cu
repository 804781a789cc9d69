/* stamps [steps, 4] of step s, columns 0 and 1 where it begins, 2 and 3 where it ends: nanoseconds
   of the global timer, low word first. Oracle: src/ops/cpu/timestamp.rs, launcher:
   src/ops/cuda/timestamp.rs.

   Entry timestamp: grid (1), 1 thread, no dynamic shared memory. */

#include <cstddef>
#include <cstdint>

namespace flux_rt {

struct TimestampParams {
    uint32_t *stamps;     // [steps, 4]
    const uint32_t *step; // [1]: s, or s + 1 at the end of s
    int32_t steps;
    int32_t end; // 0: the beginning of a step, 1: its end
};
static_assert(sizeof(TimestampParams) == 24, "mirrored by the launcher");
static_assert(offsetof(TimestampParams, stamps) == 0, "mirrored by the launcher");
static_assert(offsetof(TimestampParams, step) == 8, "mirrored by the launcher");
static_assert(offsetof(TimestampParams, steps) == 16, "mirrored by the launcher");
static_assert(offsetof(TimestampParams, end) == 20, "mirrored by the launcher");

// PTX ISA, special register %globaltimer; volatile, since every read gives another value.
__device__ __forceinline__ uint64_t global_timer() {
    uint64_t time;
    asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
    return time;
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(1)
    timestamp(const __grid_constant__ flux_rt::TimestampParams params) {
    // The end of step -1 wraps round and is outside, as are steps past the last.
    const uint32_t step = *params.step - static_cast<uint32_t>(params.end);
    if (step < static_cast<uint32_t>(params.steps)) {
        uint32_t *words = params.stamps + static_cast<int64_t>(step) * 4 + params.end * 2;
        const uint64_t time = flux_rt::global_timer();
        words[0] = static_cast<uint32_t>(time);
        words[1] = static_cast<uint32_t>(time >> 32);
    }
}
