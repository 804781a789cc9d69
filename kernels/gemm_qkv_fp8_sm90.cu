// Attention inputs of a transformer block from e4m3, Hopper tier (sm_90a): q, k, v = a W^T + bias,
// RMSNorm of q and k over the head, rotary positions, stored as bf16 [S, 3, H, 128], as
// kernels/gemm_qkv_sm90.cu. A value of a is its e4m3 number times a scale per row, and one of W
// times a scale per output channel, as of kind row in kernels/gemm_fp8_sm90.cu.
//
// Entries gemm_qkv_fp8_sm90_128x256_bf16, and gemm_qkv_fp8_sm90_128x256_e4m3, which stores
// attention_fp8_sm90.cu's inputs: q and k in e4m3 with a scale each, [S, 2, H, 128], and v in e4m3
// in units that are given per channel, transposed, [H, 128, Sp], Sp a multiple of 128 from S on,
// with zeros from key S on. Its keys are permuted inside each group of 16: position 2 g + b is key
// g + 8 b. 384 threads, clusters of 2 blocks along x, 232,096 bytes of dynamic shared memory. Grid:
// 2 * min(multiprocessors / 2, cluster tiles), of which there are (ceil(rows[0] / 256) +
// ceil(rows[1] / 256)) * ceil(columns / 256). May be launched with programmatic stream
// serialization.

#include "common/hopper/matrix_kernel.cuh"
#include "common/hopper/qkv_epilogue.cuh"
#include "common/hopper/scaled_epilogue.cuh"
#include "common/hopper/tensor_map.cuh"
#include "common/hopper/tile.cuh"
#include "common/qkv_part.cuh"

#include <cstddef>
#include <cstdint>

namespace flux_rt {

// Maps per segment cover its rows alone, as in GemmFp8Sm90Params; `out` is q, k, v with all heads
// as columns; the e4m3 entry only prefetches it. Heads have 128 columns. K is a multiple of 16; its
// last 128 may be a part.
//
// Maps of v begin at the segment's first key, so that rows[0] is a multiple of 16. They end at the
// segment's last key, or, of the last segment, at Sp. Its tiles reach Sp if rows[0] is a multiple
// of 128 or rows[1] is 0; else keys from rows[0] + ceil(rows[1] / 256) * 256 on stay as they were.
struct GemmQkvFp8Sm90Params {
    TensorMap a[2];            // [rows, k] e4m3, boxes of 128 columns x 128 rows, 128-byte swizzle
    TensorMap weight[2];       // [rows of W, k] e4m3, 128 x 128, 128-byte swizzle
    TensorMap out[2];          // [rows, columns] bf16, 64 x 64, 128-byte swizzle; of the bf16 entry
    TensorMap qk[2];           // [rows, 2 * part] e4m3, 128 x 64, 128-byte swizzle; of the other
    TensorMap v[2];            // [part, keys] e4m3, row stride Sp, 64 x 128, 64-byte swizzle; as qk
    const float *row_scale[2]; // [rows] per segment
    const float *weight_scale[2]; // [rows of W] per segment
    const float *bias[2];         // [columns] per segment; or null
    const float *q_norm[2];       // [128] per segment, aligned to 8 bytes
    const float *k_norm[2];       // [128] per segment, aligned to 8 bytes
    const float2 *rope;           // [S, 64]: cos, sin; the rows of segment 1 begin at rows[0]
    const float *v_units;         // [part], powers of 2 from 2^-126 to 2^126; of the e4m3 entry
    int32_t rows[2];              // of each segment
    int32_t columns;              // 3 * part
    int32_t part;                 // columns of q, of k and of v, a multiple of 256
    int32_t k;
    int32_t raster_rows;  // cluster tiles that share a sweep over the columns, at least 1
    float eps;            // of the RMSNorm
    float inverse[2];     // of the scales of q and k
    int32_t part_rows;    // rows of W of q, of k and of v: the first `part` of each are taken
    int32_t reserved[14]; // 0
};
static_assert(sizeof(GemmQkvFp8Sm90Params) == 1472, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, a) == 0, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, weight) == 256, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, out) == 512, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, qk) == 768, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, v) == 1024, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, row_scale) == 1280, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, weight_scale) == 1296, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, bias) == 1312, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, q_norm) == 1328, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, k_norm) == 1344, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, rope) == 1360, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, v_units) == 1368, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, rows) == 1376, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, columns) == 1384, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, part) == 1388, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, k) == 1392, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, raster_rows) == 1396, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, eps) == 1400, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, inverse) == 1404, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, part_rows) == 1412, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Sm90Params, reserved) == 1416, "mirrored by the launcher");

// Sums of e4m3 products: q and k. The pairs' factor is the weight's scale, and shared memory is
// full, so the weights of the norm come from global memory, like the angles: 512 bytes that all
// warps read and both heads of a tile share, and so mostly from L1.
template <class Tile> class ScaledSource {
  public:
    static constexpr int AHEAD = 6;

  private:
    ThreadRowScales<Tile> scales;
    const float2 *weights;   // at this lane's first pair
    float2 loaded[AHEAD][2]; // [group][right]

  public:
    __device__ __forceinline__ ScaledSource(int slot, int consumer, const float *norm)
        : scales(slot, consumer),
          weights(reinterpret_cast<const float2 *>(norm) + threadIdx.x % 4) {}

    __device__ __forceinline__ float value(float sum, const ColumnPair &pair, int i,
                                           int lower) const {
        return fmaf(sum * scales(0, lower), pair.factor[i], pair.bias[i]);
    }
    __device__ __forceinline__ void load_norm(int group) {
#pragma unroll
        for (int right = 0; right < 2; ++right) {
            loaded[group % AHEAD][right] = weights[group % (HEAD / 16) * 8 + 4 * right];
        }
    }
    __device__ __forceinline__ float2 norm(const ColumnPair &, int group, int right) const {
        return loaded[group % AHEAD][right];
    }
};

// What q, k and v are stored in.
enum class QkvOut { BF16, E4M3 };

// 1 / `unit`, a power of two: the same exponent of the other sign.
__device__ __forceinline__ float inverse_of_power(float unit) {
    return __uint_as_float(2 * __float_as_uint(1.0f) - __float_as_uint(unit));
}

// The inputs of an attention as the frame runs them.
template <QkvOut OUT> class QkvFp8Problem : public MatrixCopies<GemmQkvFp8Sm90Params> {
    // Where v begins.
    __device__ __forceinline__ int v_column() const { return 2 * params.part; }

  public:
    __device__ __forceinline__ explicit QkvFp8Problem(const GemmQkvFp8Sm90Params &params)
        : MatrixCopies(params) {}

    __device__ __forceinline__ int weight_row(int column) const {
        return qkv_weight_row(column, params.part, params.part_rows);
    }

    __device__ __forceinline__ bool has_residual() const { return false; }
    __device__ __forceinline__ void load_residual(uint32_t, uint32_t, int, int, int) const {}

    template <class Tile> __device__ __forceinline__ int chunk_columns() const {
        return OUT == QkvOut::E4M3 ? HEAD : Tile::CHUNK_COLUMNS;
    }
    __device__ __forceinline__ void store(uint32_t shared, int segment, int row, int column) const {
        if (OUT == QkvOut::BF16) {
            store_box(params.out[segment], shared, row, column);
        } else if (column < v_column()) {
            store_box(params.qk[segment], shared, row, column);
        } else {
            store_box(params.v[segment], shared, column - v_column(), row);
        }
    }

    // Rows behind a segment's end are never stored, but for v's zeros.
    __device__ __forceinline__ float row_scale(int segment, int row) const {
        return row < params.rows[segment] ? params.row_scale[segment][row] : 0.0f;
    }

    __device__ __forceinline__ ColumnPair column_pair(int segment, int column) const {
        const float *const bias = params.bias[segment], *const scale = params.weight_scale[segment];
        ColumnPair loaded{{0.0f, 0.0f}, {0.0f, 0.0f}};
        if (column >= params.columns) {
            return loaded;
        }
        const int row = weight_row(column);
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            loaded.factor[i] = scale[row + i];
            loaded.bias[i] = bias != nullptr ? bias[column + i] : 0.0f;
        }
        if (OUT == QkvOut::E4M3 && column >= v_column()) {
#pragma unroll
            for (int i = 0; i < 2; ++i) {
                const float inverse = inverse_of_power(params.v_units[column - v_column() + i]);
                loaded.factor[i] *= inverse;
                loaded.bias[i] *= inverse;
            }
        }
        return loaded;
    }

    template <class Tile, class Write>
    __device__ __forceinline__ void finish(HopperSums<Tile> &sums,
                                           const TileSchedule<Tile> &schedule, int consumer,
                                           int slot, const Write &write) const {
        const HopperPosition at = schedule.position();
        if (at.column < v_column()) {
            const int first = at.segment == 0 ? 0 : params.rows[0];
            const float *const norm =
                at.column < params.part ? params.q_norm[at.segment] : params.k_norm[at.segment];
            const float factor =
                OUT == QkvOut::E4M3 ? params.inverse[at.column < params.part ? 0 : 1] : 1.0f;
            using Source = ScaledSource<Tile>;
            const RotatedEpilogue<Tile, Source> rotated(
                Source(slot, consumer, norm), sums, slot, params.eps, params.rope,
                first + at.row + consumer * Tile::CONSUMER_M, params.rows[0] + params.rows[1],
                factor);
            if constexpr (OUT == QkvOut::E4M3) {
                write(false, RotatedE4m3Epilogue<Tile, Source>(rotated));
            } else {
                write(false, RotatedEpilogue<Tile, Source>(rotated));
            }
        } else {
            scale_rows<Tile>(sums, slot, consumer);
            if constexpr (OUT == QkvOut::E4M3) {
                const int first = at.row + consumer * Tile::CONSUMER_M;
                write(false, TransposedE4m3Epilogue<Tile>(slot, params.rows[at.segment] - first));
            } else {
                write(false, ScaledEpilogue<Tile, false>(slot));
            }
        }
    }
};

// A tile holds two whole heads of one part.
using QkvFp8Format = TileFormat<Operand::E4M3, Scales::ROWS, 2>;
using QkvFp8Tile = HopperTile<128, 256, 4, 64, 2, Consumers::TOGETHER, QkvFp8Format>;
static_assert(QkvFp8Tile::SHARED_BYTES == 232096, "header");

} // namespace flux_rt

#define GEMM_QKV_FP8_SM90_ENTRY(name, out)                                                         \
    extern "C" __global__ void __cluster_dims__(flux_rt::QkvFp8Tile::CLUSTER, 1, 1)                \
        __launch_bounds__(flux_rt::QkvFp8Tile::THREADS, 1)                                         \
            name(const __grid_constant__ flux_rt::GemmQkvFp8Sm90Params params) {                   \
        using Problem = flux_rt::QkvFp8Problem<flux_rt::QkvOut::out>;                              \
        flux_rt::run_matrix_kernel<flux_rt::QkvFp8Tile, Problem>(params);                          \
    }

GEMM_QKV_FP8_SM90_ENTRY(gemm_qkv_fp8_sm90_128x256_bf16, BF16)
GEMM_QKV_FP8_SM90_ENTRY(gemm_qkv_fp8_sm90_128x256_e4m3, E4M3)
