// The stages that both attention kernels are made of: rows of q, k or v into swizzled tiles, tiles
// into fragments, the two products, masks, and rows of results out. Partner: ../attention.cu.
// A warp handles 32 queries in two row tiles of 16; with lane = 4 g + q, a lane has rows g and
// g + 8 of each, and of every 8 columns 2 q and 2 q + 1.
#pragma once

#include "bf16.cuh"
#include "cp_async.cuh"
#include "mma.cuh"
#include "shared_memory.cuh"
#include "softmax.cuh"
#include "swizzle.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

enum AttentionMask : int32_t {
    MASK_NONE = 0,
    MASK_CAUSAL = 1,   // query q sees the keys 0..=q
    MASK_RELATIVE = 2, // a bias is added
    MASK_ANY = 3,      // only as a template argument: params.mask says which
};

// The argument of every attention kernel. Pointers are 16-byte aligned, and out_stride and head_dim
// are multiples of 8; attention_general takes any out and any out_stride and, if head_dim is not a
// multiple of 8, any qkv.
struct AttentionParams {
    __nv_bfloat16 *out;       // [S, H Dh], row stride out_stride
    const __nv_bfloat16 *qkv; // [S, 3, H, Dh], contiguous
    const float *bias;        // [H, 2 S - 1]: column k - q + S - 1; read with MASK_RELATIVE only
    int32_t seq;              // S, at least 1
    int32_t heads;            // H
    int32_t head_dim;         // Dh
    int32_t out_stride;       // elements, at least H Dh
    int32_t mask;             // an AttentionMask; read by attention_general only
    float scale;              // of the scores, above 0: maxima are taken before it is applied
};
static_assert(sizeof(AttentionParams) == 48, "mirrored by the launcher");
static_assert(offsetof(AttentionParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(AttentionParams, qkv) == 8, "mirrored by the launcher");
static_assert(offsetof(AttentionParams, bias) == 16, "mirrored by the launcher");
static_assert(offsetof(AttentionParams, seq) == 24, "mirrored by the launcher");
static_assert(offsetof(AttentionParams, heads) == 28, "mirrored by the launcher");
static_assert(offsetof(AttentionParams, head_dim) == 32, "mirrored by the launcher");
static_assert(offsetof(AttentionParams, out_stride) == 36, "mirrored by the launcher");
static_assert(offsetof(AttentionParams, mask) == 40, "mirrored by the launcher");
static_assert(offsetof(AttentionParams, scale) == 44, "mirrored by the launcher");

// q, k, v or the output of one head, rows `stride` elements apart; of bytes v lies transposed.
template <class Element> struct HeadRows {
    Element *data;
    int64_t stride;
    int rows, columns;
};

// `part` 0, 1, 2 is q, k, v.
__device__ __forceinline__ HeadRows<const __nv_bfloat16> head_rows(const AttentionParams &params,
                                                                   int part) {
    const int64_t width = static_cast<int64_t>(params.heads) * params.head_dim;
    const int64_t first = part * width + static_cast<int64_t>(blockIdx.y) * params.head_dim;
    return {params.qkv + first, 3 * width, params.seq, params.head_dim};
}

__device__ __forceinline__ HeadRows<__nv_bfloat16> out_rows(const AttentionParams &params) {
    return {params.out + static_cast<int64_t>(blockIdx.y) * params.head_dim, params.out_stride,
            params.seq, params.head_dim};
}

// Starts the copy of ROWS x COLUMNS elements to a swizzled tile; what lies beyond the source
// becomes zero. ANY_SIZE: rows may start and end where cp.async cannot; then the copy is done on
// return.
template <int ROWS, int COLUMNS, int THREADS, bool ANY_SIZE, class Element>
__device__ __forceinline__ void load_tile(uint8_t *tile, const HeadRows<Element> &source,
                                          int first_row, int first_column) {
    constexpr int ROW_BYTES = sizeof(Element) * COLUMNS, ROW_CHUNKS = ROW_BYTES / 16;
    constexpr int ROW_STEP = THREADS / ROW_CHUNKS;
    static_assert(THREADS % ROW_CHUNKS == 0 && ROWS % ROW_STEP == 0, "whole passes");
    static_assert(ROW_STEP % 8 == 0, "the swizzle repeats every 8 rows");
    const int row = static_cast<int>(threadIdx.x) / ROW_CHUNKS;
    const int chunk = static_cast<int>(threadIdx.x) % ROW_CHUNKS;
    const int column = first_column + chunk * (COLUMNS / ROW_CHUNKS);
    Element *from = source.data + (first_row + row) * source.stride + column;
    uint8_t *const to = tile + swizzled<ROW_BYTES>(row, chunk);
    const int rows_left = column < source.columns ? source.rows - first_row - row : 0;
#pragma unroll
    for (int i = 0; i < ROWS / ROW_STEP; ++i) {
        const bool valid = i * ROW_STEP < rows_left;
        if (ANY_SIZE && source.columns % 8 != 0) {
            uint16_t *const elements = reinterpret_cast<uint16_t *>(to + i * ROW_STEP * ROW_BYTES);
#pragma unroll
            for (int e = 0; e < 8; ++e) {
                const bool exists = valid && column + e < source.columns;
                elements[e] = exists ? reinterpret_cast<const uint16_t *>(from)[e] : 0;
            }
        } else {
            cp_async_16(shared_address(to + i * ROW_STEP * ROW_BYTES), from, valid);
        }
        from += ROW_STEP * source.stride;
    }
}

// This lane's ldmatrix address for A fragments of rows first_row + 0..15, and for V transposed:
// matrices rows 0-7, rows 8-15, then the same rows one chunk further.
template <int ROW_BYTES>
__device__ __forceinline__ uint32_t rows_first(const uint8_t *tile, int first_row,
                                               int first_chunk) {
    const int lane = threadIdx.x % 32;
    return shared_address(tile) +
           swizzled<ROW_BYTES>(first_row + lane % 16, first_chunk + lane / 16);
}

// The same for B fragments of K rows first_row + 0..15: matrices chunk 0, chunk 1 of rows 0-7, then
// of rows 8-15, so that words 0, 1 and words 2, 3 are a fragment each.
template <int ROW_BYTES>
__device__ __forceinline__ uint32_t columns_first(const uint8_t *tile, int first_row) {
    const int lane = threadIdx.x % 32;
    return shared_address(tile) +
           swizzled<ROW_BYTES>(first_row + lane % 8 + lane / 16 * 8, lane / 8 % 2);
}

// Moves an address by 32 `step` bytes of a row. Inside a 128-byte line chunks are XORed with row
// bits, and XORing the chunk index is adding to it, since the lane's own chunk is 0 or 1; lines
// just add.
__device__ __forceinline__ uint32_t at_step(uint32_t address, int step) {
    return (address ^ (step % 4 * 32)) + step / 4 * 128;
}

// scores += q k^T: 32 queries, 8 TILES keys, 32 STEPS bytes, both tiles with rows of ROW_BYTES.
template <int STEPS, int ROW_BYTES, class Element = __nv_bfloat16, int TILES>
__device__ __forceinline__ void multiply_q_k(float (&scores)[2][TILES][4], uint32_t q_address,
                                             uint32_t k_address) {
#pragma unroll
    for (int step = 0; step < STEPS; ++step) {
        uint32_t q[2][4];
        ldmatrix_x4(q[0], at_step(q_address, step));
        ldmatrix_x4(q[1], at_step(q_address, step) + 16 * ROW_BYTES);
#pragma unroll
        for (int n = 0; n < TILES; n += 2) {
            uint32_t k[4];
            ldmatrix_x4(k, at_step(k_address, step) + n * 8 * ROW_BYTES);
            const uint32_t first[2] = {k[0], k[1]}, second[2] = {k[2], k[3]};
#pragma unroll
            for (int tile = 0; tile < 2; ++tile) {
                mma<Element>(scores[tile][n], q[tile], first);
                mma<Element>(scores[tile][n + 1], q[tile], second);
            }
        }
    }
}

// out [.][n], out [.][n + 1] += p v: 32 queries, 16 keys, the 16 columns at `v_address`.
template <int TILES>
__device__ __forceinline__ void multiply_p_v(float (&out)[2][TILES][4], int n,
                                             const uint32_t (&p)[2][4], uint32_t v_address) {
    uint32_t v[4];
    ldmatrix_x4_trans(v, v_address);
    const uint32_t first[2] = {v[0], v[1]}, second[2] = {v[2], v[3]};
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
        mma_m16n8k16(out[tile][n], p[tile], first);
        mma_m16n8k16(out[tile][n + 1], p[tile], second);
    }
}

// Adds the relative bias; the scores are then exponents of two. `query` and `key` are those of
// scores[0][0][0]; pairs outside the sequence read some column, since nothing uses their scores.
template <int TILES>
__device__ __forceinline__ void add_bias(float (&scores)[2][TILES][4],
                                         const AttentionParams &params, int query, int key) {
    const int columns = 2 * params.seq - 1;
    const float *const bias = params.bias + static_cast<int64_t>(blockIdx.y) * columns;
    const float unit = params.scale * LOG2_E;
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
        for (int n = 0; n < TILES; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int distance = key + 8 * n + e % 2 - (query + 16 * tile + e / 2 * 8);
                const int column = min(max(distance + params.seq - 1, 0), columns - 1);
                scores[tile][n][e] = fmaf(scores[tile][n][e], unit, __ldg(bias + column) * LOG2_E);
            }
        }
    }
}

// Minus infinity for the keys from `seq` on and, if `causal`, for those after the query.
template <int TILES>
__device__ __forceinline__ void hide_keys(float (&scores)[2][TILES][4], bool causal, int seq,
                                          int query, int key) {
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
#pragma unroll
        for (int n = 0; n < TILES; ++n) {
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int end = causal ? min(query + 16 * tile + e / 2 * 8 + 1, seq) : seq;
                scores[tile][n][e] = key + 8 * n + e % 2 < end ? scores[tile][n][e] : -INFINITY;
            }
        }
    }
}

// Two neighbouring accumulator tiles, rounded, as an A fragment: the layouts agree.
__device__ __forceinline__ void pack_fragment(uint32_t (&fragment)[4], const float (&low)[4],
                                              const float (&high)[4]) {
    fragment[0] = pack_bf16(low[0], low[1]);
    fragment[1] = pack_bf16(low[2], low[3]);
    fragment[2] = pack_bf16(high[0], high[1]);
    fragment[3] = pack_bf16(high[2], high[3]);
}

// Puts 8 columns of the warp's 32 rows, rounded, into chunk `chunk` of a tile's rows from
// `first_row` on: `upper` and `lower` are the accumulators of the two row tiles.
template <int ROW_BYTES>
__device__ __forceinline__ void store_fragments(uint8_t *tile, int first_row, int chunk,
                                                const float (&upper)[4], const float (&lower)[4]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int half = 0; half < 4; ++half) {
        const float (&values)[4] = half < 2 ? upper : lower;
        const uint32_t offset = swizzled<ROW_BYTES>(first_row + half * 8 + lane / 4, chunk);
        *reinterpret_cast<uint32_t *>(tile + offset + lane % 4 * 4) =
            pack_bf16(values[half % 2 * 2], values[half % 2 * 2 + 1]);
    }
}

// Copies `rows` rows of a tile from `tile_row` on to the head's columns from `first_column` on of
// the output rows from `query` on, as far as they exist. This is thread `thread` of THREADS.
template <int ROW_BYTES, int THREADS, bool ANY_SIZE, class Element>
__device__ __forceinline__ void store_rows(const HeadRows<Element> &out, const uint8_t *tile,
                                           int tile_row, int rows, int query, int first_column,
                                           int thread) {
    constexpr int ROW_CHUNKS = ROW_BYTES / 16, CHUNK_COLUMNS = 16 / sizeof(Element);
    const int column = first_column + thread % ROW_CHUNKS * CHUNK_COLUMNS;
    const int columns = min(out.columns - column, CHUNK_COLUMNS);
    Element *const first = out.data + query * out.stride + column;
#pragma unroll 4
    for (int row = thread / ROW_CHUNKS; row < rows; row += THREADS / ROW_CHUNKS) {
        const uint8_t *const from = tile + swizzled<ROW_BYTES>(tile_row + row, thread % ROW_CHUNKS);
        Element *const to = first + row * out.stride;
        if (query + row >= out.rows || columns <= 0) {
            continue;
        }
        if (ANY_SIZE) {
            for (int e = 0; e < columns; ++e) {
                to[e] = reinterpret_cast<const Element *>(from)[e];
            }
        } else {
            *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(from);
        }
    }
}

} // namespace flux_rt
