// The number format e4m3: a sign, 4 bits of exponent, 3 of mantissa; up to 448, normal from 2^-6
// on. In PTX for cards whose instruction set lacks it, by integer arithmetic.
#pragma once

#include <cstdint>

namespace flux_rt {

constexpr float E4M3_MAX = 448.0f;

// The nearest number, the even one of two as near, saturating: as cvt.rn.satfinite.e4m3x2.f32.
__device__ __forceinline__ uint32_t to_e4m3(float value) {
    constexpr uint32_t NORMAL = 0x3c800000; // the least number with all its mantissa bits
    constexpr int CUT = 20;                 // f32's mantissa bits that e4m3 lacks
    const uint32_t bits = __float_as_uint(value);
    const uint32_t sign = bits >> 31 << 7;
    if (value != value) {
        return sign | 0x7f;
    }
    const float magnitude = fminf(fabsf(value), E4M3_MAX);
    const uint32_t whole = __float_as_uint(magnitude);
    if (whole < NORMAL) {
        // Adding brings the last bit that stays to the end of the sum's mantissa: f32 rounds there.
        constexpr float SHIFT = 16384.0f;
        return sign | (__float_as_uint(magnitude + SHIFT) - __float_as_uint(SHIFT));
    }
    const uint32_t half = (1u << (CUT - 1)) - 1 + ((whole >> CUT) & 1);
    return sign | (((whole + half) >> CUT) - ((127 - 7) << 3));
}

// Four numbers, the first in the lowest byte.
__device__ __forceinline__ uint32_t pack_e4m3(float first, float second, float third,
                                              float fourth) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 890
    uint32_t packed;
    asm("{\n"
        ".reg .b16 low, high;\n"
        "cvt.rn.satfinite.e4m3x2.f32 low, %2, %1;\n"
        "cvt.rn.satfinite.e4m3x2.f32 high, %4, %3;\n"
        "mov.b32 %0, {low, high};\n"
        "}"
        : "=r"(packed)
        : "f"(first), "f"(second), "f"(third), "f"(fourth));
    return packed;
#else
    return to_e4m3(first) | to_e4m3(second) << 8 | to_e4m3(third) << 16 | to_e4m3(fourth) << 24;
#endif
}

// Eight numbers, each times its factor, to 8-byte aligned memory.
__device__ __forceinline__ void store_e4m3_8(uint8_t *target, const float (&values)[8],
                                             const float (&factors)[8]) {
    float products[8];
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        products[i] = values[i] * factors[i];
    }
    *reinterpret_cast<uint2 *>(target) =
        make_uint2(pack_e4m3(products[0], products[1], products[2], products[3]),
                   pack_e4m3(products[4], products[5], products[6], products[7]));
}

// A scale for magnitudes up to `largest`.
__device__ __forceinline__ float e4m3_scale(float largest) {
    return __fdiv_rn(fmaxf(largest, 1e-12f), E4M3_MAX);
}

} // namespace flux_rt
