// Attention over a fused q, k, v buffer, Hopper tier (sm_90a: bulk tensor copies and wgmma), bf16:
//   out [S, H 128] = softmax(scale q k^T) v    for every head of qkv [S, 3, H, 128]
// Scores, softmax and sums are f32; probabilities are rounded to bf16 before the second product,
// the result once. FlashAttention-3's shape (arXiv 2407.08608): a warpgroup's next scores and its
// last output products run while it works on the softmax between them. Oracle:
// src/ops/cpu/attention.rs; the portable tier: attention.cu.
//
//   entry                 keys at a time   dynamic shared bytes
//   attention_sm90_d128   128              229,488
// 384 threads, clusters of 2 blocks along x. Grid: 2 * min(multiprocessors / 2, ceil(S / 256) * H).

#include "common/hopper/attention_block.cuh"
#include "common/hopper/attention_load.cuh"
#include "common/hopper/attention_multiply.cuh"
#include "common/hopper/attention_output.cuh"
#include "common/hopper/attention_shape.cuh"
#include "common/hopper/attention_softmax.cuh"
#include "common/hopper/mbarrier.cuh"
#include "common/hopper/tensor_map.cuh"
#include "common/hopper/wgmma.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Both maps are of qkv as a matrix [S, 3 H 128]: bf16, two dimensions, 128-byte swizzle, boxes of
// 64 columns. `flags` are zero before the first launch and again after each; launches that may
// overlap need `partials` and `flags` of their own. Neither is touched if a whole number of rounds
// of the clusters, grid / 2, covers the ceil(S / 256) H tiles.
struct AttentionSm90Params {
    TensorMap q;         // boxes of 128 rows
    TensorMap kv;        // boxes of as many rows as keys at a time
    __nv_bfloat16 *out;  // [S, H 128], row stride out_stride, 16-byte aligned
    float4 *partials;    // [grid, 8 warps, 17, 32]: 69,632 bytes a block
    uint32_t *flags;     // [grid, 8 warps]
    int32_t seq;         // S, at least 1
    int32_t heads;       // H, at least 1
    int32_t out_stride;  // elements, a multiple of 8
    float scale;         // of the scores, above 0: maxima are taken before it is applied
    int32_t reserved[6]; // 0
};
static_assert(sizeof(AttentionSm90Params) == 320, "mirrored by the launcher");
static_assert(offsetof(AttentionSm90Params, q) == 0, "mirrored by the launcher");
static_assert(offsetof(AttentionSm90Params, kv) == 128, "mirrored by the launcher");
static_assert(offsetof(AttentionSm90Params, out) == 256, "mirrored by the launcher");
static_assert(offsetof(AttentionSm90Params, partials) == 264, "mirrored by the launcher");
static_assert(offsetof(AttentionSm90Params, flags) == 272, "mirrored by the launcher");
static_assert(offsetof(AttentionSm90Params, seq) == 280, "mirrored by the launcher");
static_assert(offsetof(AttentionSm90Params, heads) == 284, "mirrored by the launcher");
static_assert(offsetof(AttentionSm90Params, out_stride) == 288, "mirrored by the launcher");
static_assert(offsetof(AttentionSm90Params, scale) == 292, "mirrored by the launcher");
static_assert(offsetof(AttentionSm90Params, reserved) == 296, "mirrored by the launcher");

// Stores a piece's rows, or leaves or takes its part of a shared tile.
template <class Shape>
__device__ __forceinline__ void
finish_piece(const AttentionSm90Params &params, const AttentionPiece &piece, int tile_blocks,
             int place, int consumer, float (&out)[64], HopperSoftmax &rows) {
    constexpr int WARPS = Shape::CONSUMERS * 4;
    const int warp = consumer * 4 + static_cast<int>(threadIdx.x) % 128 / 32;
    const auto partial = [&](int of_place) {
        const int block = of_place * Shape::CLUSTER + blockIdx.x % Shape::CLUSTER;
        const int64_t index = static_cast<int64_t>(block) * WARPS + warp;
        return PartialWarp{params.partials + index * (Shape::PARTIAL_VECTORS * 32),
                           params.flags + index};
    };
    if (piece.first_block > 0) {
        publish(partial(place), out, rows);
        return;
    }
    if (piece.end_block < tile_blocks) {
        take_over(partial(place + 1), out, rows);
    }
    const HeadTile at = head_tile<Shape>(params.seq, piece.tile);
    const int first_row = at.first_query + 16 * warp;
    store_rows(params.out + static_cast<int64_t>(first_row) * params.out_stride +
                   at.head * Shape::HEAD_DIM,
               params.out_stride, params.seq - first_row, out, rows);
}

// The work of one consumer on all pieces, as one sequence of key blocks: while it works on the
// softmax of a block, the products with the values of the block before run, also where that is
// another tile's.
template <class Shape>
__device__ __forceinline__ void
consume(const AttentionMemory<Shape> &shared, const AttentionSm90Params &params,
        AttentionSchedule<Shape> schedule, int tile_blocks, int consumer) {
    const float unit = params.scale * LOG2_E;
    const auto release = [&](uint32_t stage) {
        if (threadIdx.x % 128 < Shape::CLUSTER) {
            barrier_arrive_at(shared.empty(stage), threadIdx.x % 128);
        }
    };
    ConsumerQueries<Shape, KeyProducts> queries(shared, consumer);
    RingPosition<Shape::STAGES> ring;
    float scores[Shape::KEYS / 2], out[64];
    uint32_t p[Shape::KEYS / 16][4];
    HopperSoftmax rows;

    AttentionPiece piece = schedule.piece();
    int block = piece.first_block;
    const auto hide_missing_keys = [&] {
        const int keys = params.seq - block * Shape::KEYS;
        if (keys < Shape::KEYS) {
            hide_keys_from(scores, keys);
        }
    };

    queries.take();
    barrier_wait(shared.full(ring.slot), ring.parity);
    products_fence();
    queries.multiply(scores, shared.tile(ring.slot));
    products_commit();
    products_wait<0>();
    pin(scores);
    release(ring.slot);
    ring.advance();
    hide_missing_keys();
    rows.reset();
    rows.raise(scores, unit);
    rows.exponentiate(scores, unit);
    pack_probabilities(p, scores);
    bool started = false; // `out` holds products of this piece

#pragma unroll 1
    while (true) {
        // The piece that the next products with values belong to, if they are its last.
        const AttentionPiece last = piece;
        const bool ends = ++block == piece.end_block;
        if (ends) {
            schedule.advance(piece);
            if (schedule.done()) {
                break;
            }
            piece = schedule.piece();
            block = piece.first_block;
            queries.take();
        }
        const uint32_t key_stage = __shfl_sync(~0u, ring.slot, 0);
        barrier_wait(shared.full(ring.slot), ring.parity);
        ring.advance();
        products_fence();
        queries.multiply(scores, shared.tile(key_stage));
        products_commit();
        const uint32_t value_stage = __shfl_sync(~0u, ring.slot, 0);
        barrier_wait(shared.full(ring.slot), ring.parity);
        ring.advance();
        products_fence();
        multiply_values<Shape>(out, p, shared.tile(value_stage), started);
        products_commit();

        products_wait<1>();
        pin(scores);
        release(key_stage);
        HopperSoftmax last_rows = rows;
        if (ends) {
            rows.reset();
        }
        hide_missing_keys();
        const bool raised = rows.raise(scores, unit);
        rows.exponentiate(scores, unit);
        rows.finish_before_waiting();
        products_wait<0>();
        pin(out);
        release(value_stage);
        if (ends) {
            finish_piece<Shape>(params, last, tile_blocks, AttentionSchedule<Shape>::place(),
                                consumer, out, last_rows);
        } else if (raised) {
            scale_rows(out, rows.factor);
        }
        started = !ends;
        pack_probabilities(p, scores);
    }

    barrier_wait(shared.full(ring.slot), ring.parity);
    products_fence();
    multiply_values<Shape>(out, p, shared.tile(ring.slot), started);
    products_commit();
    products_wait<0>();
    pin(out);
    finish_piece<Shape>(params, piece, tile_blocks, AttentionSchedule<Shape>::place(), consumer,
                        out, rows);
}

template <class Shape>
__device__ __forceinline__ void attention_sm90(const AttentionSm90Params &params) {
    attention_block<Shape, FusedSource<Shape>>(params, [&](const AttentionMemory<Shape> &shared,
                                                           const AttentionSchedule<Shape> &schedule,
                                                           int tile_blocks, int consumer) {
        consume<Shape>(shared, params, schedule, tile_blocks, consumer);
    });
}

using Attention128 = HopperAttention<128, 6>;
static_assert(Attention128::SHARED_BYTES == 229488, "header table");

} // namespace flux_rt

#define ATTENTION_SM90_ENTRY(name, shape)                                                          \
    extern "C" __global__ void __cluster_dims__(flux_rt::shape::CLUSTER, 1, 1)                     \
        __launch_bounds__(flux_rt::shape::THREADS, 1)                                              \
            name(const __grid_constant__ flux_rt::AttentionSm90Params params) {                    \
        flux_rt::attention_sm90<flux_rt::shape>(params);                                           \
    }

ATTENTION_SM90_ENTRY(attention_sm90_d128, Attention128)
