// Attention inputs of a transformer block, Hopper tier (sm_90a): q, k, v = a W^T + bias, RMSNorm of
// q and k over the head, rotary positions, stored as [S, 3, H, 128], as kernels/gemm_qkv.cu; the
// MLP part of a single block is a GEMM of its own there, whose tile suits GELU better.
//
// Entry gemm_qkv_sm90_128x256, 384 threads, clusters of 2 blocks along x, 231,584 bytes of dynamic
// shared memory. Grid: 2 * min(multiprocessors / 2, cluster tiles), of which there are
// (ceil(rows[0] / 256) + ceil(rows[1] / 256)) * ceil(columns / 256).
// May be launched with programmatic stream serialization.

#include "common/activation.cuh"
#include "common/bf16.cuh"
#include "common/hopper/linear_epilogue.cuh"
#include "common/hopper/matrix_kernel.cuh"
#include "common/hopper/qkv_epilogue.cuh"
#include "common/hopper/tensor_map.cuh"
#include "common/hopper/tile.cuh"
#include "common/qkv_part.cuh"

#include <cstddef>
#include <cstdint>

namespace flux_rt {

// Maps per segment cover its rows alone, as in GemmSm90Params; `out` is q, k, v with all heads as
// columns. Heads have 128 columns.
struct GemmQkvSm90Params {
    TensorMap a[2];         // [rows, k], boxes of 64 columns x 128 rows, 128-byte swizzle
    TensorMap weight[2];    // [rows of W, k], 64 x 128, 128-byte swizzle
    TensorMap out[2];       // [rows, columns], 64 x 64, 128-byte swizzle
    const float *bias[2];   // [columns] per segment; or null
    const float *q_norm[2]; // [128] per segment
    const float *k_norm[2]; // [128] per segment
    const float2 *rope;     // [S, 64]: cos, sin; the rows of segment 1 begin at rows[0]
    int32_t rows[2];        // of each segment
    int32_t columns;        // 3 * part
    int32_t part;           // columns of q, of k and of v, a multiple of 256
    int32_t k;
    int32_t raster_rows; // cluster tiles that share a sweep over the columns, at least 1
    float eps;           // of the RMSNorm
    int32_t part_rows;   // rows of W of q, of k and of v: the first `part` of each are taken
};
static_assert(sizeof(GemmQkvSm90Params) == 896, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, a) == 0, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, weight) == 256, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, out) == 512, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, bias) == 768, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, q_norm) == 784, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, k_norm) == 800, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, rope) == 816, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, rows) == 824, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, columns) == 832, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, part) == 836, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, k) == 840, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, raster_rows) == 844, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, eps) == 848, "mirrored by the launcher");
static_assert(offsetof(GemmQkvSm90Params, part_rows) == 852, "mirrored by the launcher");

// Sums of bf16 products, and norms whose weights are the pairs' factor: q and k.
struct BiasSource {
    static constexpr int AHEAD = 6;

    __device__ __forceinline__ float value(float sum, const ColumnPair &pair, int i, int) const {
        return sum + pair.bias[i];
    }
    __device__ __forceinline__ void load_norm(int) const {}
    __device__ __forceinline__ float2 norm(const ColumnPair &pair, int, int) const {
        return make_float2(pair.factor[0], pair.factor[1]);
    }
};

// The inputs of an attention as the frame runs them.
class QkvProblem : public MatrixCopies<GemmQkvSm90Params> {
  public:
    __device__ __forceinline__ explicit QkvProblem(const GemmQkvSm90Params &params)
        : MatrixCopies(params) {}

    __device__ __forceinline__ int weight_row(int column) const {
        return qkv_weight_row(column, params.part, params.part_rows);
    }

    __device__ __forceinline__ bool has_residual() const { return false; }
    __device__ __forceinline__ void load_residual(uint32_t, uint32_t, int, int, int) const {}

    __device__ __forceinline__ ColumnPair column_pair(int segment, int column) const {
        const float *const bias = params.bias[segment];
        ColumnPair loaded{{0.0f, 0.0f}, {1.0f, 1.0f}};
        if (column >= params.columns) {
            return loaded;
        }
        if (bias != nullptr) {
            loaded.bias[0] = bias[column];
            loaded.bias[1] = bias[column + 1];
        }
        const int part = column / params.part;
        if (part < 2) {
            const float *const norm = part == 0 ? params.q_norm[segment] : params.k_norm[segment];
            loaded.factor[0] = norm[column % HEAD];
            loaded.factor[1] = norm[column % HEAD + 1];
        }
        return loaded;
    }

    template <class Tile, class Write>
    __device__ __forceinline__ void finish(HopperSums<Tile> &sums,
                                           const TileSchedule<Tile> &schedule, int consumer,
                                           int slot, const Write &write) const {
        const HopperPosition at = schedule.position();
        if (at.column < 2 * params.part) {
            const int first = at.segment == 0 ? 0 : params.rows[0];
            write(false, RotatedEpilogue<Tile, BiasSource>(
                             BiasSource(), sums, slot, params.eps, params.rope,
                             first + at.row + consumer * Tile::CONSUMER_M,
                             params.rows[0] + params.rows[1]));
        } else {
            write(false, LinearEpilogue<Tile, Activation::None, Steps::BIAS, false>(slot));
        }
    }
};

// A tile holds two whole heads of one part.
using QkvTile = HopperTile<128, 256, 4, 64, 2>;
static_assert(QkvTile::SHARED_BYTES == 231584, "header");

} // namespace flux_rt

extern "C" __global__ void __cluster_dims__(flux_rt::QkvTile::CLUSTER, 1, 1)
    __launch_bounds__(flux_rt::QkvTile::THREADS, 1)
        gemm_qkv_sm90_128x256(const __grid_constant__ flux_rt::GemmQkvSm90Params params) {
    flux_rt::run_matrix_kernel<flux_rt::QkvTile, flux_rt::QkvProblem>(params);
}
