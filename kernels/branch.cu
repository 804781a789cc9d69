/* The value of a graph's conditional node, from a decision in device memory: 1 is hit, 0 is
   compute. Oracle: src/ops/cpu/branch.rs, launcher: src/ops/cuda/branch.rs.

   branch: grid (1), 1 thread, no dynamic shared memory. Launched right before its node, once for
   each handle. `cudaGraphSetConditional` stays an external function of the PTX, which the driver
   resolves when it compiles the module: there is no cubin of this file. */

#include <cstddef>
#include <cstdint>
#include <cuda_device_runtime_api.h>

namespace flux_rt {

struct BranchParams {
    uint64_t handle;          // of the conditional node
    const uint32_t *decision; // [1], not 0: hit
};
static_assert(sizeof(BranchParams) == 16, "mirrored by the launcher");
static_assert(offsetof(BranchParams, handle) == 0, "mirrored by the launcher");
static_assert(offsetof(BranchParams, decision) == 8, "mirrored by the launcher");
static_assert(sizeof(cudaGraphConditionalHandle) == sizeof(uint64_t), "passed as the driver's");

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(1)
    branch(const __grid_constant__ flux_rt::BranchParams params) {
    cudaGraphSetConditional(params.handle, *params.decision != 0 ? 1 : 0);
}
