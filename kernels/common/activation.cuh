// The activation functions, in f32. Under `round_like_diffusers` a function that PyTorch computes
// as several operations rounds to bf16 after each, as its bf16 tensors do.
#pragma once

#include "bf16.cuh"

#include <cmath>

namespace flux_rt {

enum class Activation { None, Silu, GeluTanh, QuickGelu };

// x * sigmoid(x), as PyTorch's CUDA kernel writes it.
__device__ __forceinline__ float silu(float x) {
    return x / (1.0f + expf(-x));
}

// GELU in its tanh form, as PyTorch's CUDA kernel writes it: x^3 as products, the accurate tanhf.
__device__ __forceinline__ float gelu_tanh(float x) {
    constexpr float SQRT_2_OVER_PI = 0.79788456080286535588f;
    const float cube = x * x * x;
    return 0.5f * x * (1.0f + tanhf(SQRT_2_OVER_PI * (x + 0.044715f * cube)));
}

// CLIP's x * sigmoid(1.702 x): three operations in the reference.
__device__ __forceinline__ float quick_gelu(float x, bool round_like_diffusers) {
    if (!round_like_diffusers) {
        return x / (1.0f + expf(-1.702f * x));
    }
    const float scaled = round_to_bf16(1.702f * x);
    return x * round_to_bf16(1.0f / (1.0f + expf(-scaled)));
}

template <Activation ACTIVATION>
__device__ __forceinline__ void activate(float (&values)[8], bool round_like_diffusers) {
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        if constexpr (ACTIVATION == Activation::Silu) {
            values[i] = silu(values[i]);
        } else if constexpr (ACTIVATION == Activation::GeluTanh) {
            values[i] = gelu_tanh(values[i]);
        } else if constexpr (ACTIVATION == Activation::QuickGelu) {
            values[i] = quick_gelu(values[i], round_like_diffusers);
        }
    }
}

} // namespace flux_rt
