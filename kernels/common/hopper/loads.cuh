// Loads from shared memory that bulk copies overwrite once a barrier has been told that they may.
// Loads wait while the tensor cores read shared memory, and an arrival does not wait for loads
// before it: measured, the first of 64 rows of Q were now and then those of the next tile.
#pragma once

#include <cstdint>

namespace flux_rt {

// One word that needs all.
template <int GROUPS>
__device__ __forceinline__ uint32_t folded(const uint32_t (&words)[GROUPS][4]) {
    uint32_t all = 0;
#pragma unroll
    for (int i = 0; i < 4 * GROUPS; ++i) {
        all ^= words[i / 4][i % 4];
    }
    return all;
}

// Waits until what `folded` was made of is in registers, by an instruction with an effect, if
// rarely and a short one: neither the compiler nor the hardware goes past it without.
__device__ __forceinline__ void complete_loads(uint32_t folded) {
    asm volatile("{\n"
                 ".reg .pred rarely;\n"
                 "setp.eq.u32 rarely, %0, 0x9e3779b9;\n"
                 "@rarely nanosleep.u32 1;\n"
                 "}" ::"r"(folded)
                 : "memory");
}

} // namespace flux_rt
