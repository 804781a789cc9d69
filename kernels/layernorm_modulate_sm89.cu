// Of layernorm_modulate.cu what quantises, with the conversions that cards have from compute
// capability 8.9 on; entry layernorm_modulate_fp8_sm89.

#include "common/layernorm_modulate.cuh"

extern "C" __global__ void __launch_bounds__(flux_rt::ROW_THREADS, flux_rt::ROW_BLOCKS_PER_SM)
    layernorm_modulate_fp8_sm89(const __grid_constant__ flux_rt::LayernormModulateParams params) {
    flux_rt::layernorm_modulate_row_fp8(params);
}
