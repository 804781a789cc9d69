// quantize_qkv.cu with the conversions of the Hopper tier's instruction set; entry
// quantize_qkv_sm90.

#include "common/fp8.cuh"
#include "common/quantize_qkv.cuh"

namespace flux_rt {

struct PackByInstruction {
    __device__ static __forceinline__ uint32_t pack(float first, float second, float third,
                                                    float fourth) {
        return pack_e4m3(first, second, third, fourth);
    }
};

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(flux_rt::QUANTIZE_QKV_THREADS)
    quantize_qkv_sm90(const __grid_constant__ flux_rt::QuantizeQkvParams params) {
    flux_rt::quantize_qkv_block<flux_rt::PackByInstruction>(params);
}
