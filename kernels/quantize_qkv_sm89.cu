// quantize_qkv.cu with the conversions that cards have from compute capability 8.9 on; entry
// quantize_qkv_sm89.

#include "common/quantize_qkv.cuh"

extern "C" __global__ void __launch_bounds__(flux_rt::QUANTIZE_QKV_THREADS)
    quantize_qkv_sm89(const __grid_constant__ flux_rt::QuantizeQkvParams params) {
    flux_rt::quantize_qkv_block(params);
}
