// Finds the block of a launch that finishes last, with a counter of whole numbers: which block it
// is depends on timing, what it then computes must not.
#pragma once

#include <cstdint>

namespace flux_rt {

// Whether all other blocks of a one-dimensional grid have called this before: then it sees what
// they wrote. One thread of each block calls, after a barrier if others of the block have written.
// `blocks_done` is a __device__ variable of the kernel's own, 0 between launches, which follow one
// another.
__device__ __forceinline__ bool is_last_block(uint32_t &blocks_done) {
    __threadfence();
    if (atomicAdd(&blocks_done, 1u) != gridDim.x - 1) {
        return false;
    }
    blocks_done = 0;
    __threadfence();
    return true;
}

} // namespace flux_rt
