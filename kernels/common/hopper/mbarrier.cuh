// mbarriers: 64-bit words of shared memory on which threads and bulk copies meet. A phase is over
// when all arrivals and all announced bytes are in; waiting names the parity of the phase.
#pragma once

#include <cstdint>

namespace flux_rt {

__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals)
                 : "memory");
}

// Makes initialised barriers visible to bulk copies and to the cluster; a barrier of all threads
// that use them must follow.
__device__ __forceinline__ void barrier_init_fence() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}

// Arrives, and keeps the phase open until bulk copies have delivered `bytes`.
__device__ __forceinline__ void barrier_arrive_expect(uint32_t barrier, uint32_t bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
                 : "memory");
}

// Arrives at the barrier that lies at the same address in block `rank` of the cluster. It publishes
// no writes of this thread: .release.cluster would, through a fence of the whole GPU's memory.
__device__ __forceinline__ void barrier_arrive_at(uint32_t barrier, uint32_t rank) {
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.shared::cluster.b64 _, [there];\n"
                 "}" ::"r"(barrier),
                 "r"(rank)
                 : "memory");
}

__device__ __forceinline__ bool barrier_try_wait(uint32_t barrier, uint32_t parity) {
    uint32_t done;
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n"
                 "}"
                 : "=r"(done)
                 : "r"(barrier), "r"(parity)
                 : "memory");
    return done != 0;
}

// Waits until the phase of `parity` is over. Of a fresh barrier, the phase of parity 1 is.
// With FLUX_RT_SPIN_LIMIT defined, a wait of that many clocks traps instead of hanging.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
#ifdef FLUX_RT_SPIN_LIMIT
    const long long start = clock64();
#endif
    while (!barrier_try_wait(barrier, parity)) {
#ifdef FLUX_RT_SPIN_LIMIT
        if (clock64() - start > FLUX_RT_SPIN_LIMIT) {
            __trap();
        }
#endif
    }
}

// A position in a ring of SLOTS buffers, each with barriers of its own: the slot, and the parity of
// the phase that its barriers are in on this lap. Never reset, also from one tile to the next.
template <int SLOTS> struct RingPosition {
    uint32_t slot = 0, parity = 0;

    __device__ __forceinline__ void advance() {
        ++slot;
        if (slot == SLOTS) {
            slot = 0;
            parity ^= 1;
        }
    }

    __device__ __forceinline__ void advance_by(uint32_t count) {
        slot += count;
        parity ^= slot / SLOTS & 1;
        slot %= SLOTS;
    }
};

} // namespace flux_rt
