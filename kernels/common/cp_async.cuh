// cp.async (PTX ISA, Ampere): 16-byte copies from global to shared memory that do not pass through
// registers. Copies are counted in groups: commit closes a group, wait<N> returns when at most the
// N newest groups of this thread are unfinished. Other threads see the bytes after a barrier only.
#pragma once

#include <cstdint>

namespace flux_rt {

// Copies 16 bytes to the shared address `destination`, or writes 16 zero bytes if not `valid`;
// then `source` is not read and may point anywhere. Both sides are 16-byte aligned.
__device__ __forceinline__ void cp_async_16(uint32_t destination, const void *source, bool valid);

// Closes the group of the copies issued so far.
__device__ __forceinline__ void cp_async_commit();

// Waits until at most PENDING groups are unfinished.
template <int PENDING> __device__ __forceinline__ void cp_async_wait();

#ifndef FLUX_RT_HOST_EMULATION // a host emulation of the kernels brings its own bodies

// .cg: through L2 only, since a tile's rows are not read twice by one block. The prefetch hint
// makes L2 fetch the 128-byte line whose other half the next K slab reads.
__device__ __forceinline__ void cp_async_16(uint32_t destination, const void *source, bool valid) {
    const int source_bytes = valid ? 16 : 0;
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;" ::"r"(destination),
                 "l"(source), "r"(source_bytes)
                 : "memory");
}

__device__ __forceinline__ void cp_async_commit() {
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int PENDING> __device__ __forceinline__ void cp_async_wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory");
}

#endif

} // namespace flux_rt
