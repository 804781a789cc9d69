// Dependent launches: a grid that the host launches as one may take over multiprocessors while the
// last blocks of the grid before it still run. Launched in the ordinary way, these do nothing.
#pragma once

namespace flux_rt {

// Waits until the grids before this one are done and their writes are visible. No thread reads or
// writes global memory before, but for parameters.
__device__ __forceinline__ void wait_for_earlier_grids() {
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

// Lets the next grid's blocks start where this grid leaves room; it waits as above.
__device__ __forceinline__ void admit_next_grid() {
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}

} // namespace flux_rt
