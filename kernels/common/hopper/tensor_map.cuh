// Bulk tensor copies (TMA) between a matrix or an image in global memory and a box of it in shared
// memory. The matrix, the box and its swizzle are in a tensor map that the host encodes.
#pragma once

#include <cstdint>

namespace flux_rt {

// The bytes of a CUtensorMap, a kernel's `const __grid_constant__` parameter or part of one.
struct alignas(64) TensorMap {
    uint64_t words[16];
};
static_assert(sizeof(TensorMap) == 128, "mirrored by the launcher");

__device__ __forceinline__ void prefetch_map(const TensorMap &map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(&map) : "memory");
}

// Loads the box whose first element is (row, column); what lies outside the matrix becomes zeros
// and counts towards the bytes that `barrier` expects.
__device__ __forceinline__ void load_box(uint32_t shared, const TensorMap &map, uint32_t barrier,
                                         int row, int column) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4}], [%2];" ::"r"(shared),
                 "l"(&map), "r"(barrier), "r"(column), "r"(row)
                 : "memory");
}

// The same of an image [height, width, channels]: the box whose first element is (y, x, channel),
// which may lie outside.
__device__ __forceinline__ void load_image_box(uint32_t shared, const TensorMap &map,
                                               uint32_t barrier, int y, int x, int channel) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 " [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(shared),
                 "l"(&map), "r"(barrier), "r"(channel), "r"(x), "r"(y)
                 : "memory");
}

// The matrix box into every block of the cluster that `blocks` has a bit of, at the same address,
// with the bytes counted by each block's own barrier.
__device__ __forceinline__ void load_box_multicast(uint32_t shared, const TensorMap &map,
                                                   uint32_t barrier, int row, int column,
                                                   uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %4}], [%2], %5;" ::"r"(shared),
                 "l"(&map), "r"(barrier), "r"(column), "r"(row), "h"(blocks)
                 : "memory");
}

// The same of a matrix cut both ways, [groups of rows, panels, rows of a group, columns of a
// panel]: the box whose first element begins `group` and `panel`.
__device__ __forceinline__ void load_groups_multicast(uint32_t shared, const TensorMap &map,
                                                      uint32_t barrier, int group, int panel,
                                                      uint16_t blocks) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%3, %3, %4, %5}], [%2], %6;" ::"r"(shared),
                 "l"(&map), "r"(barrier), "r"(0), "r"(panel), "r"(group), "h"(blocks)
                 : "memory");
}

// Stores a box; what lies outside the matrix is left out.
__device__ __forceinline__ void store_box(const TensorMap &map, uint32_t shared, int row,
                                          int column) {
    asm volatile(
        "cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%2, %3}], [%1];" ::"l"(&map),
        "r"(shared), "r"(column), "r"(row)
        : "memory");
}

__device__ __forceinline__ void store_image_box(const TensorMap &map, uint32_t shared, int y, int x,
                                                int channel) {
    asm volatile(
        "cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%2, %3, %4}], [%1];" ::"l"(
            &map),
        "r"(shared), "r"(channel), "r"(x), "r"(y)
        : "memory");
}

__device__ __forceinline__ void commit_stores() {
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}

// Waits until all but PENDING of this thread's committed groups have read their shared memory.
template <int PENDING> __device__ __forceinline__ void wait_stores_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(PENDING) : "memory");
}

// Waits until this thread's stores are in global memory.
__device__ __forceinline__ void wait_stores() {
    asm volatile("cp.async.bulk.wait_group 0;" ::: "memory");
}

// Orders this thread's ordinary accesses of shared memory before later bulk copies of it, once a
// barrier has told the thread that starts those.
__device__ __forceinline__ void fence_before_bulk_copy() {
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

} // namespace flux_rt
