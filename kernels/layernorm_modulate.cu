/* out [S, D] = LayerNorm(x [S, D]) * (1 + scale [D]) + shift [D], no affine parameters, for one or
   two row ranges with vectors of their own: spec flux 3.4 steps 1 and 8. Oracle:
   src/ops/cpu/layernorm_modulate.rs, launcher: src/ops/cuda/layernorm_modulate.rs.

   Entries layernorm_modulate, and layernorm_modulate_fp8, whose output is e4m3 with a scale for
   each row: grid (rows), 128 threads, no dynamic shared memory. */

#include "common/layernorm_modulate.cuh"

extern "C" __global__ void __launch_bounds__(flux_rt::ROW_THREADS, flux_rt::ROW_BLOCKS_PER_SM)
    layernorm_modulate(const __grid_constant__ flux_rt::LayernormModulateParams params) {
    using namespace flux_rt;
    const int64_t first = static_cast<int64_t>(blockIdx.x) * params.out_stride;
    layernorm_modulate_row(params, static_cast<__nv_bfloat16 *>(params.out) + first);
}

extern "C" __global__ void __launch_bounds__(flux_rt::ROW_THREADS, flux_rt::ROW_BLOCKS_PER_SM)
    layernorm_modulate_fp8(const __grid_constant__ flux_rt::LayernormModulateParams params) {
    flux_rt::layernorm_modulate_row_fp8(params);
}
