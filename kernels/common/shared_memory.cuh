// Shared memory: where a kernel's dynamic part starts, and the 32-bit addresses that ldmatrix and
// cp.async take. The functions of this header are the only ones that know where it lies.
#pragma once

#include <cstdint>

namespace flux_rt {

// First byte of the dynamic shared memory, aligned to 1,024 bytes.
__device__ __forceinline__ uint8_t *dynamic_shared();

// Address of `pointer` inside the shared window.
__device__ __forceinline__ uint32_t shared_address(const void *pointer);

#ifndef FLUX_RT_HOST_EMULATION // a host emulation of the kernels brings its own bodies

__device__ __forceinline__ uint8_t *dynamic_shared() {
    extern __shared__ __align__(1024) uint8_t dynamic_shared_bytes[];
    return dynamic_shared_bytes;
}

__device__ __forceinline__ uint32_t shared_address(const void *pointer) {
    return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

#endif

} // namespace flux_rt
