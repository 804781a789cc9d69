// q, k and v for attention over e4m3: q and k with a scale each, which bounds give; v in units of
// its channels, transposed, keys padded with zeros and permuted in groups of 16. A division is a
// multiplication by the reciprocal.
#pragma once

#include "bf16.cuh"
#include "e4m3.cuh"
#include "vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

constexpr int QUANTIZE_QKV_THREADS = 256;
constexpr int KEY_GROUP = 16;      // keys whose order changes, and that a thread takes
constexpr int GROUP_CHANNELS = 16; // of v in a block: a row's part is 32 bytes

// All pointers are aligned to 16 bytes.
struct QuantizeQkvParams {
    uint8_t *qk;              // [seq, 2, heads, head_dim] e4m3
    uint8_t *v;               // [heads, head_dim, padded] e4m3
    const float *v_units;     // [heads * head_dim], powers of two
    const __nv_bfloat16 *qkv; // [seq, 3, heads, head_dim]
    int32_t seq;              // S, at least 1
    int32_t heads;            // H, at least 1
    int32_t head_dim;         // Dh, a multiple of 16
    int32_t padded;           // S or more, a multiple of 128
    float inverse[2];         // of the scales of q and k
};
static_assert(sizeof(QuantizeQkvParams) == 56, "mirrored by the launcher");
static_assert(offsetof(QuantizeQkvParams, qk) == 0, "mirrored by the launcher");
static_assert(offsetof(QuantizeQkvParams, v) == 8, "mirrored by the launcher");
static_assert(offsetof(QuantizeQkvParams, v_units) == 16, "mirrored by the launcher");
static_assert(offsetof(QuantizeQkvParams, qkv) == 24, "mirrored by the launcher");
static_assert(offsetof(QuantizeQkvParams, seq) == 32, "mirrored by the launcher");
static_assert(offsetof(QuantizeQkvParams, heads) == 36, "mirrored by the launcher");
static_assert(offsetof(QuantizeQkvParams, head_dim) == 40, "mirrored by the launcher");
static_assert(offsetof(QuantizeQkvParams, padded) == 44, "mirrored by the launcher");
static_assert(offsetof(QuantizeQkvParams, inverse) == 48, "mirrored by the launcher");

// Sixteen values of q or k a thread.
__device__ __forceinline__ void quantize_queries_and_keys(const QuantizeQkvParams &params,
                                                          int64_t thread) {
    const int of_part = params.heads * params.head_dim / 16;
    const int64_t row = thread / (2 * of_part);
    if (row >= params.seq) {
        return;
    }
    const int in_row = static_cast<int>(thread - row * (2 * of_part));
    const float inverse = params.inverse[in_row < of_part ? 0 : 1];
    const __nv_bfloat16 *const x = params.qkv + row * (3 * 16 * of_part) + 16 * in_row;
    float values[16];
    load_8(reinterpret_cast<float (&)[8]>(values[0]), x);
    load_8(reinterpret_cast<float (&)[8]>(values[8]), x + 8);
    uint32_t words[4];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const float *const four = values + 4 * i;
        words[i] =
            pack_e4m3(four[0] * inverse, four[1] * inverse, four[2] * inverse, four[3] * inverse);
    }
    *reinterpret_cast<uint4 *>(params.qk + row * (2 * 16 * of_part) + 16 * in_row) =
        make_uint4(words[0], words[1], words[2], words[3]);
}

// GROUP_CHANNELS channels of v by a block. Two neighbouring threads take both halves of the
// channels of KEY_GROUP keys.
__device__ __forceinline__ void quantize_values(const QuantizeQkvParams &params, int block) {
    constexpr int EACH = GROUP_CHANNELS / 2;
    const int thread = threadIdx.x, half = thread % 2;
    const int channel = block * GROUP_CHANNELS + half * EACH; // counted over all heads
    const int64_t stride = 3 * static_cast<int64_t>(params.heads) * params.head_dim;
    const __nv_bfloat16 *const x = params.qkv + stride / 3 * 2 + channel;
    float inverse[EACH];
#pragma unroll
    for (int i = 0; i < EACH; ++i) {
        inverse[i] = __fdiv_rn(1.0f, params.v_units[channel + i]);
    }
    uint8_t *const v = params.v + static_cast<int64_t>(channel) * params.padded;
    for (int first = thread / 2 * KEY_GROUP; first < params.padded;
         first += QUANTIZE_QKV_THREADS / 2 * KEY_GROUP) {
        float values[KEY_GROUP][EACH];
#pragma unroll
        for (int i = 0; i < KEY_GROUP; ++i) {
            if (first + i < params.seq) {
                load_8(values[i], x + (first + i) * stride);
            } else {
#pragma unroll
                for (int j = 0; j < EACH; ++j) {
                    values[i][j] = 0.0f;
                }
            }
        }
#pragma unroll
        for (int j = 0; j < EACH; ++j) {
            // Position 2 g + b is key g + 8 b.
            uint32_t words[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                words[i] =
                    pack_e4m3(values[2 * i][j] * inverse[j], values[2 * i + 8][j] * inverse[j],
                              values[2 * i + 1][j] * inverse[j], values[2 * i + 9][j] * inverse[j]);
            }
            *reinterpret_cast<uint4 *>(v + static_cast<int64_t>(j) * params.padded + first) =
                make_uint4(words[0], words[1], words[2], words[3]);
        }
    }
}

// Grid: heads * head_dim / 16 blocks for v, then ceil(seq * 2 * heads * head_dim / 16 / 256) for q
// and k.
__device__ __forceinline__ void quantize_qkv_block(const QuantizeQkvParams &params) {
    const int of_values = params.heads * params.head_dim / GROUP_CHANNELS;
    const int block = static_cast<int>(blockIdx.x);
    if (block < of_values) {
        quantize_values(params, block);
    } else {
        quantize_queries_and_keys(
            params, static_cast<int64_t>(block - of_values) * QUANTIZE_QKV_THREADS + threadIdx.x);
    }
}

} // namespace flux_rt
