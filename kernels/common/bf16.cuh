// Eight bf16 values at a time: 16 bytes in memory, f32 in registers.
#pragma once

#include <cstdint>
#include <cstring>
#include <cuda_bf16.h>

namespace flux_rt {

// The f32 value nearest to `value` that bf16 can hold, ties to even.
__device__ __forceinline__ float round_to_bf16(float value) {
    return __bfloat162float(__float2bfloat16_rn(value));
}

// `values` rounded to bf16 if `on`, else unchanged.
__device__ __forceinline__ void round_to_bf16_if(bool on, float (&values)[8]) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        values[i] = on ? round_to_bf16(values[i]) : values[i];
    }
}

// Eight bf16 values from 16-byte aligned memory, as they are.
__device__ __forceinline__ uint4 load_raw_8(const __nv_bfloat16 *source) {
    return *reinterpret_cast<const uint4 *>(source);
}

__device__ __forceinline__ void unpack_8(float (&values)[8], uint4 raw) {
    const uint32_t words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        // bf16 is the upper half of an f32.
        values[2 * i] = __uint_as_float(words[i] << 16);
        values[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}

// Eight values from 16-byte aligned memory.
__device__ __forceinline__ void load_8(float (&values)[8], const __nv_bfloat16 *source) {
    unpack_8(values, load_raw_8(source));
}

// Eight f32 values from 16-byte aligned memory.
__device__ __forceinline__ void load_8(float (&values)[8], const float *source) {
    const float4 low = reinterpret_cast<const float4 *>(source)[0];
    const float4 high = reinterpret_cast<const float4 *>(source)[1];
    values[0] = low.x;
    values[1] = low.y;
    values[2] = low.z;
    values[3] = low.w;
    values[4] = high.x;
    values[5] = high.y;
    values[6] = high.z;
    values[7] = high.w;
}

// Two f32 as bf16 in one word, `low` in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t word;
    memcpy(&word, &pair, sizeof word);
    return word;
}

// Eight values to 16-byte aligned memory.
__device__ __forceinline__ void store_8(__nv_bfloat16 *target, const float (&values)[8]) {
    *reinterpret_cast<uint4 *>(target) =
        make_uint4(pack_bf16(values[0], values[1]), pack_bf16(values[2], values[3]),
                   pack_bf16(values[4], values[5]), pack_bf16(values[6], values[7]));
}

} // namespace flux_rt
