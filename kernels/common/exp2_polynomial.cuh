// 2^x by the FMA pipe, which the special function unit's 16 results a clock and multiprocessor
// leave idle (the idea of FlashAttention-4).
#pragma once

namespace flux_rt {

// 2^x for x in [-30, 120], smaller x count as -30; relative error at most 0.0018. x is split into
// an integer, which becomes the exponent, and a fraction in [-1/2, 1/2] under the polynomial of
// degree 2 with the least largest relative error.
__device__ __forceinline__ float exp2_polynomial(float x) {
    constexpr float C0 = 1.00044310f, C1 = 0.70344841f, C2 = 0.23842913f;
    constexpr float TO_INTEGER = 12582912.0f; // 1.5 * 2^23: sums have no bits of a fraction
    x = fmaxf(x, -30.0f);
    const float shifted = x + TO_INTEGER;
    const float fraction = x - (shifted - TO_INTEGER);
    const float power = fmaf(fmaf(C2, fraction, C1), fraction, C0);
    return __int_as_float(__float_as_int(power) + (__float_as_int(shifted) << 23));
}

} // namespace flux_rt
