/* Attention over q, k and v in e4m3, for compute capability 8.9 and newer (mma.sync):
 *   out [S, H 128] = softmax(scale q k^T) v    for every head of q and k [S, 2, H, 128]
 * Scores, softmax and sums are f32; probabilities are rounded to e4m3, the result once. The shape
 * is attention.cu's. v is transposed, [H, 128, Sp], Sp a multiple of 128 from S on, with zeros from
 * key S on, and its keys are permuted inside each group of 16: position 2 g + b is key g + 8 b.
 * Oracle: src/ops/cpu/attention.rs, launcher: src/ops/cuda/attention/sm89.rs.
 *
 *   entry                          out
 *   attention_fp8_sm89_d128        bf16
 *   attention_fp8_sm89_d128_e4m3   e4m3, 4 times the mean of v's numbers, saturating
 * Of the latter, whoever reads `out` knows v's units, and takes them and the 4 into its weights.
 * 128 queries a block, 128 threads, 49,152 bytes of dynamic shared memory. Grid: x = ceil(S / 128),
 * y = H. */

#include "common/attention_tile.cuh"
#include "common/bf16.cuh"
#include "common/e4m3.cuh"
#include "common/shared_memory.cuh"
#include "common/softmax.cuh"
#include "common/tile_ring.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Pointers are 16-byte aligned.
struct AttentionFp8Params {
    void *out;            // [S, H 128], bf16 or e4m3, row stride out_stride
    const uint8_t *qk;    // [S, 2, H, 128] e4m3
    const uint8_t *v;     // [H, 128, padded] e4m3
    const float *v_units; // [H, 128]: one per head and channel; of the bf16 entry only
    int32_t seq;          // S, at least 1
    int32_t heads;        // H
    int32_t padded;       // Sp
    int32_t out_stride;   // elements, a multiple of 16 bytes
    float scale;          // of the scores, above 0, with the scales of q and k
    int32_t reserved;     // 0
};
static_assert(sizeof(AttentionFp8Params) == 56, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Params, out) == 0, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Params, qk) == 8, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Params, v) == 16, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Params, v_units) == 24, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Params, seq) == 32, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Params, heads) == 36, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Params, padded) == 40, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Params, out_stride) == 44, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Params, scale) == 48, "mirrored by the launcher");
static_assert(offsetof(AttentionFp8Params, reserved) == 52, "mirrored by the launcher");

// Four warps of 32 queries. A tile is KEYS rows of 128 channels of K, then 128 rows of KEYS keys of
// V; the next one comes while one is worked on, and two blocks share an SM's 100 KB. The results
// leave through what Q and the tiles have taken.
struct Fp8Attention {
    static constexpr int HEAD_DIM = 128, QUERIES = 128, KEYS = 64, THREADS = 128, STAGES = 2;
    static constexpr int QUERY_BYTES = QUERIES * HEAD_DIM;
    static constexpr int VALUES_OFFSET = KEYS * HEAD_DIM, TILE_BYTES = 2 * VALUES_OFFSET;
    static constexpr int SHARED_BYTES = QUERY_BYTES + STAGES * TILE_BYTES;
    static constexpr int STEPS = KEYS / 32, FRAGMENTS = HEAD_DIM / 8;
    static_assert(SHARED_BYTES == 49152, "header");
    static_assert(QUERIES * HEAD_DIM * sizeof(__nv_bfloat16) <= SHARED_BYTES, "room for results");

    using Scores = float[2][KEYS / 8][4];
    using Packed = uint32_t[STEPS][2][4];
    using Out = float[2][FRAGMENTS][4];
};

// Probabilities as A fragments: a lane's scores of two neighbouring tiles are the keys 2 q, 2 q +
// 8, 2 q + 1 and 2 q + 9 of 16, which V has in this order at 4 q.
__device__ __forceinline__ void pack_probabilities(Fp8Attention::Packed &p,
                                                   const Fp8Attention::Scores &scores) {
#pragma unroll
    for (int i = 0; i < 8 * Fp8Attention::STEPS; ++i) {
        const int step = i / 8, tile = i / 4 % 2, word = i % 4;
        const float (&low)[4] = scores[tile][4 * step + word / 2 * 2];
        const float (&high)[4] = scores[tile][4 * step + word / 2 * 2 + 1];
        const int row = word % 2 * 2;
        p[step][tile][word] = pack_e4m3(low[row], high[row], low[row + 1], high[row + 1]);
    }
}

// Adds what was rounded to the rows' sums: products with ones, whole rows in every lane.
template <class Rows>
__device__ __forceinline__ void add_sums(Rows &rows, const Fp8Attention::Packed &p) {
    constexpr uint32_t ONES = 0x38383838;
    const uint32_t ones[2] = {ONES, ONES};
#pragma unroll
    for (int tile = 0; tile < 2; ++tile) {
        float sums[4] = {};
#pragma unroll
        for (int step = 0; step < Fp8Attention::STEPS; ++step) {
            mma<uint8_t>(sums, p[step][tile], ones);
        }
        rows.sum[tile][0] += sums[0];
        rows.sum[tile][1] += sums[2];
    }
}

// out += p v for the tile of V whose first channels are at `v_address`. The tensor cores cut what
// lies some 13 bits below the sum that they add to, of thousands of keys with like weights percents
// of the result: so they sum the keys of a tile alone, and f32 additions the tiles.
__device__ __forceinline__ void multiply_p_v(Fp8Attention::Out &out, const Fp8Attention::Packed &p,
                                             uint32_t v_address) {
    constexpr int ROW_BYTES = Fp8Attention::KEYS;
#pragma unroll
    for (int n = 0; n < Fp8Attention::FRAGMENTS; n += 2) {
        float sums[2][2][4] = {};
#pragma unroll
        for (int step = 0; step < Fp8Attention::STEPS; ++step) {
            uint32_t v[4];
            ldmatrix_x4(v, at_step(v_address, step) + n * 8 * ROW_BYTES);
            const uint32_t first[2] = {v[0], v[1]}, second[2] = {v[2], v[3]};
#pragma unroll
            for (int tile = 0; tile < 2; ++tile) {
                mma<uint8_t>(sums[tile][0], p[step][tile], first);
                mma<uint8_t>(sums[tile][1], p[step][tile], second);
            }
        }
#pragma unroll
        for (int i = 0; i < 16; ++i) {
            out[i / 8][n + i / 4 % 2][i % 4] += sums[i / 8][i / 4 % 2][i % 4];
        }
    }
}

// The warp's results, divided by the rows' sums, to its rows of `tile`: in bf16 times v's units.
__device__ __forceinline__ void store_results(__nv_bfloat16 *, uint8_t *tile, int warp_row,
                                              Fp8Attention::Out &out, const float *v_units) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int n = 0; n < Fp8Attention::FRAGMENTS; ++n) {
        const float2 units = *reinterpret_cast<const float2 *>(v_units + 8 * n + lane % 4 * 2);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            out[i / 4][n][i % 4] *= i % 2 == 0 ? units.x : units.y;
        }
        store_fragments<2 * Fp8Attention::HEAD_DIM>(tile, warp_row, n, out[0][n], out[1][n]);
    }
}

// Or in e4m3 times 4.
__device__ __forceinline__ void store_results(uint8_t *, uint8_t *tile, int warp_row,
                                              Fp8Attention::Out &out, const float *) {
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int i = 0; i < 4 * Fp8Attention::FRAGMENTS; ++i) {
        const int n = i / 4, half = i % 4;
        const float (&values)[4] = out[half / 2][n];
        const int row = warp_row + half * 8 + lane / 4;
        const uint32_t pair =
            pack_e4m3(4.0f * values[half % 2 * 2], 4.0f * values[half % 2 * 2 + 1], 0.0f, 0.0f);
        uint8_t *const chunk = tile + swizzled<Fp8Attention::HEAD_DIM>(row, n / 2);
        *reinterpret_cast<uint16_t *>(chunk + n % 2 * 8 + lane % 4 * 2) =
            static_cast<uint16_t>(pair);
    }
}

template <class Element>
__device__ __forceinline__ void attention_fp8(const AttentionFp8Params &params) {
    using Shape = Fp8Attention;
    constexpr int HEAD_DIM = Shape::HEAD_DIM, KEYS = Shape::KEYS;
    uint8_t *const q_tile = dynamic_shared();
    const int lane = threadIdx.x % 32;
    const int warp_row = static_cast<int>(threadIdx.x) / 32 * 32;
    const int first_query = static_cast<int>(blockIdx.x) * Shape::QUERIES;
    const int head = blockIdx.y;
    const int64_t width = static_cast<int64_t>(params.heads) * HEAD_DIM;
    const HeadRows<const uint8_t> q = {params.qk + head * HEAD_DIM, 2 * width, params.seq,
                                       HEAD_DIM};
    const HeadRows<const uint8_t> k = {q.data + width, q.stride, q.rows, q.columns};
    const HeadRows<const uint8_t> v = {params.v +
                                           static_cast<int64_t>(head) * HEAD_DIM * params.padded,
                                       params.padded, HEAD_DIM, params.padded};

    load_tile<Shape::QUERIES, HEAD_DIM, Shape::THREADS, false>(q_tile, q, first_query, 0);
    int load_key = 0;
    const auto load = [&](uint8_t *tile) {
        if (load_key < params.seq) {
            load_tile<KEYS, HEAD_DIM, Shape::THREADS, false>(tile, k, load_key, 0);
            load_tile<HEAD_DIM, KEYS, Shape::THREADS, false>(tile + Shape::VALUES_OFFSET, v, 0,
                                                             load_key);
        }
        load_key += KEYS;
    };
    uint8_t *const ring_bytes = q_tile + Shape::QUERY_BYTES;
    TileRing<Shape::STAGES, Shape::TILE_BYTES, decltype(load)> ring(ring_bytes, load);
    const uint32_t q_address = rows_first<HEAD_DIM>(q_tile, warp_row, 0);
    const float unit = params.scale * LOG2_E;
    Shape::Out out = {};
    SoftmaxRows<E4m3Probabilities> rows;
#pragma unroll 1
    for (int key = 0; key < params.seq; key += KEYS) {
        const uint8_t *const tile = ring.take();
        Shape::Scores scores = {};
        multiply_q_k<HEAD_DIM / 32, HEAD_DIM, uint8_t>(scores, q_address,
                                                       columns_first<HEAD_DIM>(tile, 0));
        if (key + KEYS > params.seq) {
            hide_keys(scores, false, params.seq, 0, key + lane % 4 * 2);
        }
        float highest[2][2];
        row_max(highest, scores, unit);
        rows.raise(highest, out);
        rows.exponentiate(scores, unit);
        Shape::Packed p;
        pack_probabilities(p, scores);
        add_sums(rows, p);
        multiply_p_v(out, p, columns_first<KEYS>(tile + Shape::VALUES_OFFSET, 0));
    }

    rows.divide(out);
    __syncthreads(); // all warps are past their last tiles
    Element *const first = static_cast<Element *>(params.out) + head * HEAD_DIM;
    store_results(first, q_tile, warp_row, out, params.v_units + head * HEAD_DIM);
    __syncwarp();
    store_rows<HEAD_DIM * sizeof(Element), 32, false>(
        HeadRows<Element>{first, params.out_stride, params.seq, HEAD_DIM}, q_tile, warp_row, 32,
        first_query + warp_row, 0, lane);
}

} // namespace flux_rt

#define ATTENTION_FP8_SM89_ENTRY(name, element)                                                    \
    extern "C" __global__ void __launch_bounds__(flux_rt::Fp8Attention::THREADS, 2)                \
        name(const __grid_constant__ flux_rt::AttentionFp8Params params) {                         \
        flux_rt::attention_fp8<element>(params);                                                   \
    }

ATTENTION_FP8_SM89_ENTRY(attention_fp8_sm89_d128, __nv_bfloat16)
ATTENTION_FP8_SM89_ENTRY(attention_fp8_sm89_d128_e4m3, uint8_t)
