// The warp's tensor-core instructions with f32 sums (PTX ISA): ldmatrix and mma.sync.m16n8k16 in
// bf16 (Ampere), mma.sync.m16n8k32 in e4m3 (Ada, compute capability 8.9). All 32 lanes call
// together. With lane = 4 g + q the fragments are, two bf16 a word:
//   a[0] A[g][2q, 2q+1]     a[1] A[g+8][2q, 2q+1]     a[2], a[3] the same with k + 8
//   b[0] B[2q, 2q+1][g]     b[1] B[2q+8, 2q+9][g]
//   d[0], d[1] D[g][2q, 2q+1]    d[2], d[3] D[g+8][2q, 2q+1]
// Of e4m3 a word holds four, 4q to 4q+3, and a[2], a[3], b[1] have k + 16: the same bytes of a row.
#pragma once

#include <cstdint>

namespace flux_rt {

// Loads four 8x8 matrices of 16-bit elements. Lane l passes the shared address of row l % 8 of
// matrix l / 8; lane 4 g + q receives elements 2q, 2q+1 of row g of matrix i in words[i].
__device__ __forceinline__ void ldmatrix_x4(uint32_t (&words)[4], uint32_t row_address);

// The same, every matrix transposed: lane 4 g + q receives rows 2q, 2q+1 of column g.
__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&words)[4], uint32_t row_address);

// d [16, 8] += a [16, 16] b [16, 8].
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]);

// d [16, 8] += a [16, 32] b [32, 8] in e4m3, on cards of compute capability 8.9 and newer.
__device__ __forceinline__ void mma_m16n8k32(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]);

#ifndef FLUX_RT_HOST_EMULATION // a host emulation of the kernels brings its own bodies

__device__ __forceinline__ void ldmatrix_x4(uint32_t (&words)[4], uint32_t row_address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(row_address)
                 : "memory");
}

__device__ __forceinline__ void ldmatrix_x4_trans(uint32_t (&words)[4], uint32_t row_address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(row_address)
                 : "memory");
}

// Not volatile: it reads and writes registers only, so the compiler may place it among the loads.
__device__ __forceinline__ void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_m16n8k32(float (&d)[4], const uint32_t (&a)[4],
                                             const uint32_t (&b)[2]) {
    asm("mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 "
        "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

#endif

// d += a b over 32 bytes of K of operands of bf16, or of bytes, which are e4m3.
template <class Element>
__device__ __forceinline__ void mma(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    if constexpr (sizeof(Element) == 1) {
        mma_m16n8k32(d, a, b);
    } else {
        mma_m16n8k16(d, a, b);
    }
}

} // namespace flux_rt
