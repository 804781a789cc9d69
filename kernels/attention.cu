/* Attention over a fused q, k, v buffer, portable tier (Ampere and newer), all tensors bf16:
 *   out [S, H Dh] = softmax(scale q k^T + mask) v    for every head of qkv [S, 3, H, Dh]
 * Scores, softmax and sums are f32; probabilities are rounded to bf16 before the second product,
 * the result once. FlashAttention-2's shape (arXiv 2307.08691): a block walks over all keys with
 * its queries, and scores stay on the chip. Oracle: src/ops/cpu/attention.rs, launcher:
 * src/ops/cuda/attention.rs.
 *
 *   entry                    head dim       mask          queries   threads   dynamic shared bytes
 *   attention_d128           128            none          128       128       81,920
 *   attention_d64            64             none          128       128       40,960
 *   attention_d64_causal     64             causal        128       128       40,960
 *   attention_d64_relative   64             relative      128       128       40,960
 *   attention_general        1..128         params.mask   128       128       57,344
 *   attention_wide           8..512, by 8   none          64        256       148,480
 *   attention_wide_small     8..512, by 8   none          64        256       99,328
 * Grid: x = ceil(S / queries), y = H. attention_wide_small is for GPUs with 99 KB a block (compute
 * capability 8.6, 8.9, 12.0). */

#include "common/attention_tile.cuh"
#include "common/shared_memory.cuh"
#include "common/softmax.cuh"
#include "common/tile_ring.cuh"

#include <cstddef>
#include <cstdint>

namespace flux_rt {

// Heads of up to HEAD_DIM channels: 128 queries, KEYS keys at a time. Four warps of 32 queries
// each: with 16 a warp every K and V tile would be read twice as often, and an H100 SM's shared
// memory (128 bytes a clock) would set the pace. Q is read from shared memory in each step, as 192
// registers hold scores and output. K and V alternate in a ring of three tiles: two blocks of head
// size 128 then share an SM of an A100 (164 KB).
template <int HEAD_DIM_, int KEYS_> struct AttentionTile {
    static constexpr int QUERIES = 128, KEYS = KEYS_, WARPS = 4, THREADS = 32 * WARPS, STAGES = 3;
    static constexpr int HEAD_DIM = HEAD_DIM_, ROW_BYTES = 2 * HEAD_DIM;
    static constexpr int TILE_BYTES = KEYS * ROW_BYTES;
    static constexpr int SHARED_BYTES = QUERIES * ROW_BYTES + STAGES * TILE_BYTES;
    static_assert(QUERIES == 32 * WARPS, "a warp handles 32 queries");
};

template <class Tile, AttentionMask MASK>
__device__ __forceinline__ void attention(const AttentionParams &params) {
    constexpr int HEAD_DIM = Tile::HEAD_DIM;
    constexpr bool ANY_SIZE = MASK == MASK_ANY;
    constexpr int ROW_BYTES = Tile::ROW_BYTES, FRAGMENTS = HEAD_DIM / 8;
    uint8_t *const q_tile = dynamic_shared();
    const int lane = threadIdx.x % 32;
    const int warp_row = static_cast<int>(threadIdx.x) / 32 * 32;
    const int first_query = static_cast<int>(blockIdx.x) * Tile::QUERIES;
    const int query = first_query + warp_row + lane / 4;
    const bool causal = (ANY_SIZE ? params.mask : MASK) == MASK_CAUSAL;
    const bool relative = (ANY_SIZE ? params.mask : MASK) == MASK_RELATIVE;
    // Keys that some query of the block sees, and those that all queries of the warp see.
    const int keys = causal ? min(params.seq, first_query + Tile::QUERIES) : params.seq;
    const int keys_of_all = causal ? min(params.seq, first_query + warp_row + 1) : params.seq;

    load_tile<Tile::QUERIES, HEAD_DIM, Tile::THREADS, ANY_SIZE>(q_tile, head_rows(params, 0),
                                                                first_query, 0);
    HeadRows<const __nv_bfloat16> source = head_rows(params, 1);
    const __nv_bfloat16 *const k = source.data, *const v = head_rows(params, 2).data;
    int load_key = 0;
    bool load_v = false;
    const auto load = [&](uint8_t *tile) {
        if (load_key < keys) {
            source.data = load_v ? v : k;
            load_tile<Tile::KEYS, HEAD_DIM, Tile::THREADS, ANY_SIZE>(tile, source, load_key, 0);
        }
        load_key += load_v ? Tile::KEYS : 0;
        load_v = !load_v;
    };
    uint8_t *const ring_bytes = q_tile + Tile::QUERIES * ROW_BYTES;
    TileRing<Tile::STAGES, Tile::TILE_BYTES, decltype(load)> ring(ring_bytes, load);
    const uint32_t q_address = rows_first<ROW_BYTES>(q_tile, warp_row, 0);
    float out[2][FRAGMENTS][4] = {};
    SoftmaxRows<Bf16Probabilities> rows;
#pragma unroll 1
    for (int key = 0; key < keys; key += Tile::KEYS) {
        float scores[2][Tile::KEYS / 8][4] = {};
        multiply_q_k<HEAD_DIM / 16, ROW_BYTES>(scores, q_address,
                                               columns_first<ROW_BYTES>(ring.take(), 0));
        if (relative) {
            add_bias(scores, params, query, key + lane % 4 * 2);
        }
        if (key + Tile::KEYS > keys_of_all) {
            hide_keys(scores, causal, params.seq, query, key + lane % 4 * 2);
        }
        const float unit = relative ? 1.0f : params.scale * LOG2_E;
        float highest[2][2];
        row_max(highest, scores, unit);
        rows.raise(highest, out);
        rows.exponentiate(scores, unit);

        const uint32_t v_address = rows_first<ROW_BYTES>(ring.take(), 0, 0);
#pragma unroll
        for (int step = 0; step < Tile::KEYS / 16; ++step) {
            uint32_t p[2][4];
            pack_fragment(p[0], scores[0][2 * step], scores[0][2 * step + 1]);
            pack_fragment(p[1], scores[1][2 * step], scores[1][2 * step + 1]);
#pragma unroll
            for (int n = 0; n < FRAGMENTS; n += 2) {
                multiply_p_v(out, n, p, at_step(v_address, n / 2) + step * 16 * ROW_BYTES);
            }
        }
    }

    // The results leave through the warp's own rows of Q, which no other warp reads.
    rows.add_quad_sums();
    rows.divide(out);
    __syncwarp();
#pragma unroll
    for (int n = 0; n < FRAGMENTS; ++n) {
        store_fragments<ROW_BYTES>(q_tile, warp_row, n, out[0][n], out[1][n]);
    }
    __syncwarp();
    store_rows<ROW_BYTES, 32, ANY_SIZE>(out_rows(params), q_tile, warp_row, 32,
                                        first_query + warp_row, 0, lane);
}

// Heads of up to 512 channels, in slices of 64: 64 queries, KEYS keys at a time. Eight warps,
// 2 x 4: each has 32 queries, a quarter of the keys for the scores, and a quarter of every slice's
// channels for the output, so that all warps work on every slice. Row maxima and probabilities pass
// between the four warps of a row through shared memory.
template <int KEYS_, int STAGES_> struct WideTile {
    static constexpr int QUERIES = 64, KEYS = KEYS_, THREADS = 256, STAGES = STAGES_;
    static constexpr int SLICE = 64, SLICES = 8, ROW_BYTES = 2 * SLICE;
    static constexpr int TILE_BYTES = KEYS * ROW_BYTES;
    // Slices of Q; slices of 64 keys of the probabilities; a row value for each of four warps.
    static constexpr int Q_SLICE_BYTES = QUERIES * ROW_BYTES;
    static constexpr int P_BYTES = KEYS / 64 * Q_SLICE_BYTES, SHARED_ROWS_BYTES = 4 * QUERIES * 4;
    static constexpr int SHARED_BYTES =
        SLICES * Q_SLICE_BYTES + P_BYTES + STAGES * TILE_BYTES + SHARED_ROWS_BYTES;
    static_assert(KEYS % 64 == 0, "a warp handles a quarter: pairs of 8 keys");
};

// Gives every lane the values `mine` [row tile][row g or g + 8] of the four warps that share its
// rows. All threads call; a barrier stands between two calls, so that none overtakes the reading.
__device__ __forceinline__ void share_rows(float *shared, int warp_row, int warp_column,
                                           const float (&mine)[2][2], float (&all)[4][2][2]) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        if (lane % 4 == 0) {
            shared[warp_column * 64 + warp_row + i * 8 + lane / 4] = mine[i / 2][i % 2];
        }
    }
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 16; ++i) {
        all[i / 4][i / 2 % 2][i % 2] = shared[i / 4 * 64 + warp_row + i % 4 * 8 + lane / 4];
    }
}

template <class Tile>
__device__ __forceinline__ void attention_wide(const AttentionParams &params) {
    constexpr int ROW_BYTES = Tile::ROW_BYTES, WARP_KEYS = Tile::KEYS / 4;
    uint8_t *const q_tile = dynamic_shared();
    uint8_t *const p_tile = q_tile + Tile::SLICES * Tile::Q_SLICE_BYTES;
    uint8_t *const ring_bytes = p_tile + Tile::P_BYTES;
    float *const shared_rows =
        reinterpret_cast<float *>(ring_bytes + Tile::STAGES * Tile::TILE_BYTES);
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int warp_row = warp / 4 * 32, warp_column = warp % 4;
    const int first_query = static_cast<int>(blockIdx.x) * Tile::QUERIES;
    const int slices = (params.head_dim + Tile::SLICE - 1) / Tile::SLICE;

    HeadRows<const __nv_bfloat16> source = head_rows(params, 0);
    for (int slice = 0; slice < slices; ++slice) {
        load_tile<Tile::QUERIES, Tile::SLICE, Tile::THREADS, false>(
            q_tile + slice * Tile::Q_SLICE_BYTES, source, first_query, slice * Tile::SLICE);
    }
    const __nv_bfloat16 *const k = head_rows(params, 1).data, *const v = head_rows(params, 2).data;
    int load_key = 0, load_slice = 0;
    bool load_v = false;
    const auto load = [&](uint8_t *tile) {
        if (load_key < params.seq) {
            source.data = load_v ? v : k;
            load_tile<Tile::KEYS, Tile::SLICE, Tile::THREADS, false>(tile, source, load_key,
                                                                     load_slice * Tile::SLICE);
        }
        if (++load_slice == slices) {
            load_slice = 0;
            load_key += load_v ? Tile::KEYS : 0;
            load_v = !load_v;
        }
    };
    TileRing<Tile::STAGES, Tile::TILE_BYTES, decltype(load)> ring(ring_bytes, load);
    const uint32_t q_address = rows_first<ROW_BYTES>(q_tile, warp_row, 0);
    const uint32_t p_address = rows_first<ROW_BYTES>(p_tile, warp_row, 0);
    const float unit = params.scale * LOG2_E;
    // Fragments 2 s and 2 s + 1 are channels 64 s + 16 warp_column + 0..15.
    float out[2][2 * Tile::SLICES][4] = {};
    SoftmaxRows<Bf16Probabilities> rows;
#pragma unroll 1
    for (int key = 0; key < params.seq; key += Tile::KEYS) {
        float scores[2][WARP_KEYS / 8][4] = {};
#pragma unroll 1
        for (int slice = 0; slice < slices; ++slice) {
            multiply_q_k<Tile::SLICE / 16, ROW_BYTES>(
                scores, q_address + slice * Tile::Q_SLICE_BYTES,
                columns_first<ROW_BYTES>(ring.take(), warp_column * WARP_KEYS));
        }
        const int warp_key = key + warp_column * WARP_KEYS;
        if (warp_key + WARP_KEYS > params.seq) {
            hide_keys(scores, false, params.seq, 0, warp_key + lane % 4 * 2);
        }
        float highest[2][2], of_warps[4][2][2];
        row_max(highest, scores, unit);
        share_rows(shared_rows, warp_row, warp_column, highest, of_warps);
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            float &high = highest[i / 2 % 2][i % 2];
            high = fmaxf(high, of_warps[i / 4][i / 2 % 2][i % 2]);
        }
        // The four warps hold the same maxima and references here, so they raise alike.
        rows.raise(highest, out);
        rows.exponentiate(scores, unit);
#pragma unroll
        for (int n = 0; n < WARP_KEYS / 8; ++n) {
            const int chunk = warp_column * (WARP_KEYS / 8) + n;
            store_fragments<ROW_BYTES>(p_tile + chunk / 8 * Tile::Q_SLICE_BYTES, warp_row,
                                       chunk % 8, scores[0][n], scores[1][n]);
        }

        uint32_t p[Tile::KEYS / 16][2][4];
#pragma unroll
        for (int slice = 0; slice < Tile::SLICES; ++slice) {
            if (slice >= slices) {
                break;
            }
            // The first barrier of these also hands over the probabilities.
            const uint32_t v_address = rows_first<ROW_BYTES>(ring.take(), 0, 2 * warp_column);
#pragma unroll
            for (int step = 0; step < Tile::KEYS / 16; ++step) {
                if (slice == 0) {
                    const uint32_t address =
                        at_step(p_address, step % 4) + step / 4 * Tile::Q_SLICE_BYTES;
                    ldmatrix_x4(p[step][0], address);
                    ldmatrix_x4(p[step][1], address + 16 * ROW_BYTES);
                }
                multiply_p_v(out, 2 * slice, p[step], v_address + step * 16 * ROW_BYTES);
            }
        }
    }

    // Each warp has summed a quarter of the keys. Q is free: all warps are past their last scores.
    float sums[4][2][2];
    rows.add_quad_sums();
    share_rows(shared_rows, warp_row, warp_column, rows.sum, sums);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
        const int tile = i / 2, half = i % 2;
        rows.sum[tile][half] =
            sums[0][tile][half] + sums[1][tile][half] + sums[2][tile][half] + sums[3][tile][half];
    }
    rows.divide(out);
#pragma unroll
    for (int n = 0; n < 2 * Tile::SLICES; ++n) {
        store_fragments<ROW_BYTES>(q_tile + n / 2 * Tile::Q_SLICE_BYTES, warp_row,
                                   2 * warp_column + n % 2, out[0][n], out[1][n]);
    }
    __syncthreads();
    for (int slice = 0; slice < slices; ++slice) {
        store_rows<ROW_BYTES, Tile::THREADS, false>(
            out_rows(params), q_tile + slice * Tile::Q_SLICE_BYTES, 0, Tile::QUERIES, first_query,
            slice * Tile::SLICE, threadIdx.x);
    }
}

using Attention128 = AttentionTile<128, 64>;
using Attention64 = AttentionTile<64, 64>;
using AttentionGeneral = AttentionTile<128, 32>;
using AttentionWide = WideTile<128, 4>;
using AttentionWideSmall = WideTile<64, 3>;
static_assert(Attention128::SHARED_BYTES == 81920, "header table");
static_assert(Attention64::SHARED_BYTES == 40960, "header table");
static_assert(AttentionGeneral::SHARED_BYTES == 57344, "header table");
static_assert(AttentionWide::SHARED_BYTES == 148480, "header table");
static_assert(AttentionWideSmall::SHARED_BYTES == 99328, "header table");

} // namespace flux_rt

#define ATTENTION_ENTRY(name, tile, mask)                                                          \
    extern "C" __global__ void __launch_bounds__(flux_rt::tile::THREADS, 2)                        \
        name(const __grid_constant__ flux_rt::AttentionParams params) {                            \
        flux_rt::attention<flux_rt::tile, flux_rt::mask>(params);                                  \
    }

#define ATTENTION_WIDE_ENTRY(name, tile)                                                           \
    extern "C" __global__ void __launch_bounds__(flux_rt::tile::THREADS, 1)                        \
        name(const __grid_constant__ flux_rt::AttentionParams params) {                            \
        flux_rt::attention_wide<flux_rt::tile>(params);                                            \
    }

ATTENTION_ENTRY(attention_d128, Attention128, MASK_NONE)
ATTENTION_ENTRY(attention_d64, Attention64, MASK_NONE)
ATTENTION_ENTRY(attention_d64_causal, Attention64, MASK_CAUSAL)
ATTENTION_ENTRY(attention_d64_relative, Attention64, MASK_RELATIVE)
ATTENTION_ENTRY(attention_general, AttentionGeneral, MASK_ANY)
ATTENTION_WIDE_ENTRY(attention_wide, AttentionWide)
ATTENTION_WIDE_ENTRY(attention_wide_small, AttentionWideSmall)
