/* q, k [S, 2, H, Dh] and v [H, Dh, S padded] in e4m3 from qkv [S, 3, H, Dh], for attention: q and k
   with a scale each, v in units of its channels. Keys of v are padded to a multiple of 128 with
   zeros; of each 16, position 2 g + b is key g + 8 b. Oracle: src/ops/cpu/quantize_qkv.rs,
   launcher: src/ops/cuda/quantize_qkv.rs.

   Entry quantize_qkv: 256 threads, no dynamic shared memory, grid as quantize_qkv_block says. */

#include "common/quantize_qkv.cuh"

extern "C" __global__ void __launch_bounds__(flux_rt::QUANTIZE_QKV_THREADS)
    quantize_qkv(const __grid_constant__ flux_rt::QuantizeQkvParams params) {
    flux_rt::quantize_qkv_block(params);
}
