// Conversions to e4m3: a sign, 4 bits of exponent, 3 of mantissa; up to 448, normal from 2^-6 on.
#pragma once

#include <cstdint>

namespace flux_rt {

// Four values rounded to nearest, the first in the lowest byte; beyond the range, the largest.
__device__ __forceinline__ uint32_t pack_e4m3(float first, float second, float third,
                                              float fourth) {
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
}

} // namespace flux_rt
