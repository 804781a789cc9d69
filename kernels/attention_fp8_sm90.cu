// Attention over q, k and v in e4m3, Hopper tier (sm_90a: bulk tensor copies and wgmma):
//   out [S, H 128] = softmax(scale q k^T) v    for every head of q and k [S, 2, H, 128]
// Scores, softmax and sums are f32; probabilities are rounded to e4m3, the result once. The shape
// is attention_sm90.cu's. v is transposed, [H, 128, Sp], Sp a multiple of 128 from S on, with zeros
// from key S on, and its keys are permuted inside each group of 16: position 2 g + b is key g + 8
// b.
//
//   entry                          out                               keys at a time   shared bytes
//   attention_fp8_sm90_d128        bf16                              128              225,424
//   attention_fp8_sm90_d128_e4m3   e4m3, 4 times the mean of v's     128              225,424
//                                  numbers, saturating
// Of the latter, whoever reads `out` knows v's units, and takes them and the 4 into its weights.
// 384 threads, clusters of 2 blocks along x. Grid: 2 * min(multiprocessors / 2, ceil(S / 256) * H).

#include "common/hopper/attention_block.cuh"
#include "common/hopper/attention_fp8_load.cuh"
#include "common/hopper/attention_fp8_multiply.cuh"
#include "common/hopper/attention_fp8_output.cuh"
#include "common/hopper/attention_fp8_shape.cuh"
#include "common/hopper/attention_fp8_softmax.cuh"
#include "common/hopper/attention_fp8_sums.cuh"
#include "common/hopper/attention_multiply.cuh"
#include "common/hopper/attention_output.cuh"
#include "common/hopper/attention_shape.cuh"
#include "common/hopper/mbarrier.cuh"
#include "common/hopper/tensor_map.cuh"
#include "common/hopper/wgmma.cuh"
#include "common/hopper/wgmma_fp8_registers.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// The maps are of bytes. q and k are maps of one matrix [S, 2 H 128], 128-byte swizzle. v is a map
// of four dimensions, from the fastest on: P keys; 8 channels, Sp bytes apart; Sp / P panels, P
// bytes apart; 16 H groups, 8 Sp bytes apart. P is what 128, 64 or 32 divides the keys at a time,
// and the swizzle has as many bytes. `flags` and `partials` are as of attention_sm90.cu.
struct AttentionFp8Sm90Params {
    TensorMap q;           // boxes of 128 columns and 128 rows
    TensorMap k;           // boxes of 128 columns and half as many rows as keys at a time
    TensorMap v;           // boxes of P, 8, keys at a time / P, 8
    void *out;             // [S, H 128], bf16 or e4m3, row stride out_stride, 16-byte aligned
    const float *v_scales; // [H, 128]: one per head and channel; of the bf16 entry only
    float4 *partials;      // [grid, 8 warps, 17, 32]: 69,632 bytes a block
    uint32_t *flags;       // [grid, 8 warps]
    int32_t seq;           // S, at least 1
    int32_t heads;         // H, at least 1
    int32_t out_stride;    // elements, a multiple of 16 bytes
    float scale;           // of the scores, above 0, with the scales of q and k
    int32_t reserved[20];  // 0
};
static_assert(sizeof(AttentionFp8Sm90Params) == 512, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, q) == 0, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, k) == 128, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, v) == 256, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, out) == 384, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, v_scales) == 392, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, partials) == 400, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, flags) == 408, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, seq) == 416, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, heads) == 420, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, out_stride) == 424, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, scale) == 428, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Sm90Params, reserved) == 432, "mirrored by the launcher");

enum class AttentionOut { BF16, E4M3 };

// Stores a piece's rows, or leaves or takes its part of a shared tile.
template <class Shape, AttentionOut OUT>
__device__ __forceinline__ void
finish_piece(const AttentionFp8Sm90Params &params, const AttentionPiece &piece, int tile_blocks,
             int place, int consumer, float (&out)[Shape::OUT_COLUMNS / 2],
             Fp8Softmax<Shape> &rows) {
    constexpr int WARPS = Shape::CONSUMERS * 4;
    const int warp = consumer * 4 + static_cast<int>(threadIdx.x) % 128 / 32;
    const auto partial = [&](int of_place) {
        const int block = of_place * Shape::CLUSTER + blockIdx.x % Shape::CLUSTER;
        const int64_t index = static_cast<int64_t>(block) * WARPS + warp;
        return PartialWarp{params.partials + index * (Shape::PARTIAL_VECTORS * 32),
                           params.flags + index};
    };
    rows.take_sums(out);
    if (piece.first_block > 0) {
        publish(partial(place), out, rows);
        return;
    }
    if (piece.end_block < tile_blocks) {
        take_over(partial(place + 1), out, rows);
    }
    const HeadTile at = head_tile<Shape>(params.seq, piece.tile);
    const int row = at.first_query + 16 * warp;
    const int64_t first = static_cast<int64_t>(row) * params.out_stride + at.head * Shape::HEAD_DIM;
    if constexpr (OUT == AttentionOut::BF16) {
        scale_channels(out, params.v_scales + at.head * Shape::HEAD_DIM);
        store_rows(static_cast<__nv_bfloat16 *>(params.out) + first, params.out_stride,
                   params.seq - row, out, rows);
    } else {
        store_rows_e4m3(static_cast<uint8_t *>(params.out) + first, params.out_stride,
                        params.seq - row, out, rows);
    }
}

// The work of one consumer on all pieces, as one sequence of key blocks: while it works on the
// softmax of a block, the products with the values of the block before run, also where that is
// another tile's. The packed probabilities are few enough to be made under those products, too.
template <class Shape, AttentionOut OUT>
__device__ __forceinline__ void
consume(const AttentionMemory<Shape> &shared, const AttentionFp8Sm90Params &params,
        AttentionSchedule<Shape> schedule, int tile_blocks, int consumer) {
    const float unit = params.scale * LOG2_E;
    const auto release = [&](uint32_t stage) {
        if (threadIdx.x % 128 < Shape::CLUSTER) {
            barrier_arrive_at(shared.empty(stage), threadIdx.x % 128);
        }
    };
    ConsumerQueries<Shape, Fp8Products<Shape::KEYS>> queries(shared, consumer);
    RingPosition<Shape::STAGES> ring;
    float scores[Shape::KEYS / 2], out[Shape::OUT_COLUMNS / 2];
    uint32_t p[Shape::KEYS / 32][4], next_p[Shape::KEYS / 32][4];
    Fp8Softmax<Shape> rows;

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
    rows.exponentiate(p, scores, unit);
    KeptSums<Shape> kept(consumer);

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
        multiply_values<Shape>(out, p, shared.tile(value_stage), kept.goes_on());
        products_commit();

        products_wait<1>();
        pin(scores);
        release(key_stage);
        Fp8Softmax<Shape> last_rows = rows;
        if (ends) {
            rows.reset();
        }
        hide_missing_keys();
        const bool raised = rows.raise(scores, unit);
        rows.exponentiate(next_p, scores, unit);
        finish_before_waiting(next_p);
        products_wait<0>();
        pin(out);
        release(value_stage);
        if (ends) {
            kept.finish(out);
            finish_piece<Shape, OUT>(params, last, tile_blocks, AttentionSchedule<Shape>::place(),
                                     consumer, out, last_rows);
        } else {
            if (raised) {
                scale_rows(out, rows.factor);
                kept.lower(rows.factor);
            }
            kept.count(out);
        }
        replace_probabilities(p, next_p);
    }

    barrier_wait(shared.full(ring.slot), ring.parity);
    products_fence();
    multiply_values<Shape>(out, p, shared.tile(ring.slot), kept.goes_on());
    products_commit();
    products_wait<0>();
    pin(out);
    kept.finish(out);
    finish_piece<Shape, OUT>(params, piece, tile_blocks, AttentionSchedule<Shape>::place(),
                             consumer, out, rows);
}

template <class Shape, AttentionOut OUT>
__device__ __forceinline__ void attention_fp8_sm90(const AttentionFp8Sm90Params &params) {
    prepare_sums(AttentionMemory<Shape>());
    attention_block<Shape, Fp8Source<Shape>>(params, [&](const AttentionMemory<Shape> &shared,
                                                         const AttentionSchedule<Shape> &schedule,
                                                         int tile_blocks, int consumer) {
        consume<Shape, OUT>(shared, params, schedule, tile_blocks, consumer);
    });
}

using AttentionFp8_128 = HopperAttentionFp8<128, 8>;
static_assert(AttentionFp8_128::SHARED_BYTES == 225424, "header table");

} // namespace flux_rt

#define ATTENTION_FP8_SM90_ENTRY(name, shape, out)                                                 \
    extern "C" __global__ void __cluster_dims__(flux_rt::shape::CLUSTER, 1, 1)                     \
        __launch_bounds__(flux_rt::shape::THREADS, 1)                                              \
            name(const __grid_constant__ flux_rt::AttentionFp8Sm90Params params) {                 \
        flux_rt::attention_fp8_sm90<flux_rt::shape, flux_rt::AttentionOut::out>(params);           \
    }

ATTENTION_FP8_SM90_ENTRY(attention_fp8_sm90_d128, AttentionFp8_128, BF16)
ATTENTION_FP8_SM90_ENTRY(attention_fp8_sm90_d128_e4m3, AttentionFp8_128, E4M3)
