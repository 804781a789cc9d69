// The second product of the Hopper attention kernel for e4m3 operands: out += p v, and the sums of
// the rows of p. The first is in attention_multiply.cuh.
#pragma once

#include "attention_fp8_shape.cuh"
#include "wgmma_fp8_registers.cuh"

#include <cstdint>

namespace flux_rt {

// Describes a panel of V from shared address `tile` on: rows of PANEL_KEYS bytes with the swizzle
// of that width, groups of 8 rows GROUP_BYTES apart.
template <class Shape> __device__ __forceinline__ uint64_t values_descriptor(uint32_t tile) {
    constexpr uint64_t SWIZZLE = Shape::PANEL_KEYS == 128  ? 1
                                 : Shape::PANEL_KEYS == 64 ? 2
                                                           : 3,
                       UNUSED = 1ull << 16;
    constexpr uint64_t GROUP_STRIDE = static_cast<uint64_t>(Shape::GROUP_BYTES >> 4) << 32;
    return SWIZZLE << 62 | GROUP_STRIDE | UNUSED | ((tile & 0x3ffff) >> 4);
}

// Starts the products of probabilities with a block of V.
template <class Shape>
__device__ __forceinline__ void multiply_values(float (&out)[Shape::OUT_COLUMNS / 2],
                                                const uint32_t (&p)[Shape::KEYS / 32][4],
                                                uint32_t value_tile, bool accumulate) {
    constexpr int PANEL_STEPS = Shape::PANEL_KEYS / 32;
    const uint64_t v = values_descriptor<Shape>(value_tile);
#pragma unroll
    for (int step = 0; step < Shape::KEYS / 32; ++step) {
        const int offset = step / PANEL_STEPS * 8 * Shape::PANEL_KEYS + step % PANEL_STEPS * 32;
        Fp8Products<Shape::OUT_COLUMNS>::multiply(out, p[step], v + (offset >> 4),
                                                  accumulate || step > 0);
    }
}

// p = next, once no product reads p any more. As an ordinary assignment the compiler would make one
// of the two, written while products with p run, and then complete every product by itself.
template <int STEPS>
__device__ __forceinline__ void replace_probabilities(uint32_t (&p)[STEPS][4],
                                                      const uint32_t (&next)[STEPS][4]) {
#pragma unroll
    for (int i = 0; i < 4 * STEPS; ++i) {
        asm volatile("mov.b32 %0, %1;"
                     : "=r"(p[i / 4][i % 4])
                     : "r"(next[i / 4][i % 4])
                     : "memory");
    }
}

} // namespace flux_rt
