// Linear layers of e4m3 with their epilogue, Hopper tier (sm_90a):
//   out [M, N] = activation(residual [M, N] + gate [N] * (a [M, K] W [N, K]^T + bias [N]))
// for one or two row ranges with weights, bias and gate of their own, as kernels/gemm_sm90.cu.
// A value is its e4m3 number times a scale, one per row of W and one per row of a.
//
// Entries gemm_fp8_sm90_<tile>_<kind>, 384 threads, clusters of 2 blocks along x:
//   tile      kind    dynamic shared bytes   chunk columns   out
//   128x256   row     232,096                64              bf16
//   128x192   row     217,296                64              bf16
//   256x144   row     231,712                48              bf16
//   128x192   gelu    194,224                96              e4m3 in units of columns, GELU
// Grid: 2 * min(multiprocessors / 2, cluster tiles). A cluster tile is two tiles below each other;
// there are (ceil(rows[0] / M) + ceil(rows[1] / M)) * ceil(columns / N), M being both tiles' rows.
// May be launched with programmatic stream serialization.

#include "common/hopper/activation.cuh"
#include "common/hopper/matrix_kernel.cuh"
#include "common/hopper/quantize.cuh"
#include "common/hopper/scaled_epilogue.cuh"
#include "common/hopper/tensor_map.cuh"
#include "common/hopper/tile.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Maps are per segment and cover its rows alone. Two dimensions, boxes of
//   a               128 columns x tile rows, bytes         128-byte swizzle
//   weight          128 columns x tile columns / 2, bytes  128-byte swizzle
//   residual, out   chunk columns x 64 rows                128-byte swizzle, none of 48 and 96
// A segment without rows may have any valid maps. K is a multiple of 16, N of 8, and of 16 where
// out is e4m3. What is not read may be null or 0.
struct GemmFp8Sm90Params {
    TensorMap a[2];                  // [rows, k] e4m3
    TensorMap weight[2];             // [columns, k] e4m3
    TensorMap out[2];                // [rows, columns] bf16 or e4m3
    TensorMap residual[2];           // [rows, columns] bf16; unread unless has_residual
    const float *row_scale[2];       // [rows]
    const float *weight_scale[2];    // [columns]
    const float *bias[2];            // [columns] per segment; or null
    const float *units;              // [columns], powers of two; of kind gelu
    const __nv_bfloat16 *gate_table; // [steps, gate_stride]; unread if both columns are negative
    const uint32_t *step;            // [1]: the row of gate_table
    int32_t rows[2];                 // of each segment
    int32_t columns;                 // N
    int32_t k;
    int32_t gate_stride;
    int32_t gate_column[2]; // first column in gate_table per segment; negative: no gate
    int32_t raster_rows;    // cluster tiles that share a sweep over the columns, at least 1
    int32_t has_residual;   // not 0: `residual` is read; ignored by kind gelu
    int32_t gap_at;         // columns of W from there on lie `gap` further: a multiple of a slab
    int32_t gap;            // 0: none is left out
    int32_t reserved[3];    // 0
};
static_assert(sizeof(GemmFp8Sm90Params) == 1152, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, a) == 0, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, weight) == 256, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, out) == 512, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, residual) == 768, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, row_scale) == 1024, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, weight_scale) == 1040, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, bias) == 1056, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, units) == 1072, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, gate_table) == 1080, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, step) == 1088, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, rows) == 1096, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, columns) == 1104, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, k) == 1108, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, gate_stride) == 1112, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, gate_column) == 1116, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, raster_rows) == 1124, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, has_residual) == 1128, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, gap_at) == 1132, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, gap) == 1136, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Sm90Params, reserved) == 1140, "mirrored by the launcher");

// A linear layer to bf16 as the frame runs it.
class LinearFp8Problem : public LinearCopies<GemmFp8Sm90Params> {
  public:
    __device__ __forceinline__ explicit LinearFp8Problem(const GemmFp8Sm90Params &params)
        : LinearCopies(params) {}

    // Rows behind a segment's end are never stored.
    __device__ __forceinline__ float row_scale(int segment, int row) const {
        return row < params.rows[segment] ? params.row_scale[segment][row] : 0.0f;
    }

    // Columns behind the end are never stored.
    __device__ __forceinline__ float inverse_unit(int column) const {
        return column < params.columns ? 1.0f / params.units[column] : 0.0f;
    }

    // gate * (scale * sum + bias) as one multiplication and addition.
    __device__ __forceinline__ ColumnPair column_pair(int segment, int column) const {
        const float *const bias = params.bias[segment], *const scale = params.weight_scale[segment];
        const int gate_column = params.gate_column[segment];
        ColumnPair loaded{{0.0f, 0.0f}, {0.0f, 0.0f}};
        if (column >= params.columns) {
            return loaded;
        }
#pragma unroll
        for (int i = 0; i < 2; ++i) {
            const float gate =
                gate_column >= 0 ? __bfloat162float(gates[gate_column + column + i]) : 1.0f;
            loaded.factor[i] = gate * scale[column + i];
            loaded.bias[i] = bias != nullptr ? gate * bias[column + i] : 0.0f;
        }
        return loaded;
    }

    template <class Tile, class Write>
    __device__ __forceinline__ void finish(HopperSums<Tile> &sums, const TileSchedule<Tile> &,
                                           int consumer, int slot, const Write &write) const {
        scale_rows<Tile>(sums, slot, consumer);
        if (has_residual()) {
            write(true, ScaledEpilogue<Tile, true>(slot));
        } else {
            write(false, ScaledEpilogue<Tile, false>(slot));
        }
    }
};

// With GELU, to e4m3.
class GeluFp8Problem : public LinearFp8Problem {
  public:
    __device__ __forceinline__ explicit GeluFp8Problem(const GemmFp8Sm90Params &params)
        : LinearFp8Problem(params) {}

    __device__ __forceinline__ bool has_residual() const { return false; }

    template <class Tile, class Write>
    __device__ __forceinline__ void finish(HopperSums<Tile> &sums, const TileSchedule<Tile> &,
                                           int consumer, int slot, const Write &write) const {
        scale_rows<Tile>(sums, slot, consumer);
        write(false, GeluE4m3Epilogue<Tile>(slot));
    }
};

using RowFormat = TileFormat<Operand::E4M3, Scales::ROWS, 2>;
using GeluFormat = TileFormat<Operand::E4M3, Scales::ROWS, 1>;

constexpr Consumers TOGETHER = Consumers::TOGETHER, IN_TURN = Consumers::IN_TURN;
using Row128x256 = HopperTile<128, 256, 4, 64, 2, TOGETHER, RowFormat>;
using Row128x192 = HopperTile<128, 192, 4, 64, 3, IN_TURN, RowFormat>;
using Row256x144 = HopperTile<256, 144, 4, 48, 2, TOGETHER, RowFormat>;
using Gelu128x192 = HopperTile<128, 192, 4, 96, 2, IN_TURN, GeluFormat>;
static_assert(Row128x256::SHARED_BYTES == 232096, "header table");
static_assert(Row128x192::SHARED_BYTES == 217296, "header table");
static_assert(Row256x144::SHARED_BYTES == 231712, "header table");
static_assert(Gelu128x192::SHARED_BYTES == 194224, "header table");

} // namespace flux_rt

#define GEMM_FP8_SM90_ENTRY(name, tile, problem)                                                   \
    extern "C" __global__ void __cluster_dims__(flux_rt::tile::CLUSTER, 1, 1)                      \
        __launch_bounds__(flux_rt::tile::THREADS, 1)                                               \
            name(const __grid_constant__ flux_rt::GemmFp8Sm90Params params) {                      \
        flux_rt::run_matrix_kernel<flux_rt::tile, flux_rt::problem>(params);                       \
    }

GEMM_FP8_SM90_ENTRY(gemm_fp8_sm90_128x256_row, Row128x256, LinearFp8Problem)
GEMM_FP8_SM90_ENTRY(gemm_fp8_sm90_128x192_row, Row128x192, LinearFp8Problem)
GEMM_FP8_SM90_ENTRY(gemm_fp8_sm90_256x144_row, Row256x144, LinearFp8Problem)
GEMM_FP8_SM90_ENTRY(gemm_fp8_sm90_128x192_gelu, Gelu128x192, GeluFp8Problem)
