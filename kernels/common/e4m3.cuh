// The number format e4m3 by integer arithmetic, for cards whose instruction set lacks it.
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

// A scale for magnitudes up to `largest`.
__device__ __forceinline__ float e4m3_scale(float largest) {
    return __fdiv_rn(fmaxf(largest, 1e-12f), E4M3_MAX);
}

} // namespace flux_rt
