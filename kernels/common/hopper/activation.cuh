// GELU for epilogues that the tensor cores wait for.
#pragma once

namespace flux_rt {

// GELU in its tanh form as x * sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3), which is the same
// function: 1 + tanh(u) = 2 sigmoid(2 u). Two fast special functions with relative errors near 1e-7
// instead of tanhf's thirty instructions, and no cancellation where x is negative. Where exp
// overflows, the quotient is -0.
__device__ __forceinline__ float gelu_tanh_by_sigmoid(float x) {
    constexpr float MINUS_2_SQRT_2_OVER_PI_LOG2E = -2.0f * 0.79788456080286535588f * 1.44269504089f;
    const float inner =
        fmaf(0.044715f * MINUS_2_SQRT_2_OVER_PI_LOG2E, x * x, MINUS_2_SQRT_2_OVER_PI_LOG2E);
    float power, quotient;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(inner * x));
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(quotient) : "f"(1.0f + power));
    return x * quotient;
}

// The same with one special function, whose error is up to 2^-11: off by 2.5e-4 |x|, for results
// that keep fewer bits.
__device__ __forceinline__ float gelu_tanh_approximate(float x) {
    constexpr float SQRT_2_OVER_PI = 0.79788456080286535588f;
    const float inner = fmaf(0.044715f * SQRT_2_OVER_PI, x * x, SQRT_2_OVER_PI);
    float tangent;
    asm("tanh.approx.f32 %0, %1;" : "=f"(tangent) : "f"(inner * x));
    const float half = 0.5f * x;
    return fmaf(half, tangent, half);
}

} // namespace flux_rt
