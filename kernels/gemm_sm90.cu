// Linear layers with their epilogue, Hopper tier (sm_90a: bulk tensor copies and wgmma):
//   out [M, N] = activation(residual [M, N] + gate [N] * (a [M, K] W [N, K]^T + bias [N]))
// for one or two row ranges with weights, bias and gate of their own, as kernels/gemm.cu.
//
// Entries gemm_sm90_<tile>_<activation>, 384 threads, clusters of 2 blocks along x:
//   tile      dynamic shared bytes   chunk columns   activations
//   128x256   231,584                64              none
//   256x144   230,688                48              none
//   128x192   216,272                64              none, gelu_tanh
//   128x128   230,592                64              none
// Grid: 2 * min(multiprocessors / 2, cluster tiles). A cluster tile is two tiles below each other;
// there are (ceil(rows[0] / M) + ceil(rows[1] / M)) * ceil(columns / N), M being both tiles' rows.
// May be launched with programmatic stream serialization.

#include "common/hopper/linear_epilogue.cuh"
#include "common/hopper/matrix_kernel.cuh"
#include "common/hopper/tensor_map.cuh"
#include "common/hopper/tile.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Maps are per segment and cover its rows alone, so that a tile that reaches over a segment's end
// reads zeros there and writes nothing: bf16, two dimensions, boxes of
//   a               64 columns x tile rows            128-byte swizzle
//   weight          64 columns x tile columns / 2     128-byte swizzle
//   residual, out   chunk columns x 64 rows           128-byte swizzle of 64 columns, none of 48
// A segment without rows may have any valid maps. Gate columns and the gate table's stride are
// multiples of 8, N and K too.
struct GemmSm90Params {
    TensorMap a[2];                  // [rows, k]
    TensorMap weight[2];             // [columns, k]
    TensorMap out[2];                // [rows, columns]
    TensorMap residual[2];           // [rows, columns]; unread unless has_residual
    const float *bias[2];            // [columns] per segment; or null
    const __nv_bfloat16 *gate_table; // [steps, gate_stride]; unread if both columns are negative
    const uint32_t *step;            // [1]: the row of gate_table
    int32_t rows[2];                 // of each segment
    int32_t columns;                 // N
    int32_t k;
    int32_t gate_stride;
    int32_t gate_column[2];       // first column in gate_table per segment; negative: no gate
    int32_t raster_rows;          // cluster tiles that share a sweep over the columns, at least 1
    int32_t has_residual;         // not 0: `residual` is read
    int32_t round_like_diffusers; // not 0: round to bf16 wherever PyTorch's bf16 tensors do
    int32_t gap_at;      // columns of W from there on lie `gap` further: a multiple of a slab
    int32_t gap;         // 0: none is left out
    int32_t reserved[4]; // 0
};
static_assert(sizeof(GemmSm90Params) == 1152, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, a) == 0, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, weight) == 256, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, out) == 512, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, residual) == 768, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, bias) == 1024, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, gate_table) == 1040, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, step) == 1048, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, rows) == 1056, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, columns) == 1064, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, k) == 1068, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, gate_stride) == 1072, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, gate_column) == 1076, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, raster_rows) == 1084, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, has_residual) == 1088, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, round_like_diffusers) == 1092, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, gap_at) == 1096, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, gap) == 1100, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, reserved) == 1104, "mirrored by the launcher");

// A linear layer as the frame runs it.
template <Activation ACTIVATION> class LinearProblem : public LinearCopies<GemmSm90Params> {
  public:
    __device__ __forceinline__ explicit LinearProblem(const GemmSm90Params &params)
        : LinearCopies(params) {}

    // Where a segment has no bias or no gate, zeros and ones.
    __device__ __forceinline__ ColumnPair column_pair(int segment, int column) const {
        const float *const bias = params.bias[segment];
        const int gate_column = params.gate_column[segment];
        ColumnPair loaded{{0.0f, 0.0f}, {1.0f, 1.0f}};
        if (column < params.columns && bias != nullptr) {
            loaded.bias[0] = bias[column];
            loaded.bias[1] = bias[column + 1];
        }
        if (column < params.columns && gate_column >= 0) {
            loaded.factor[0] = __bfloat162float(gates[gate_column + column]);
            loaded.factor[1] = __bfloat162float(gates[gate_column + column + 1]);
        }
        return loaded;
    }

    template <class Tile, class Write>
    __device__ __forceinline__ void finish(const HopperSums<Tile> &, const TileSchedule<Tile> &,
                                           int, int slot, const Write &write) const {
        constexpr Steps FEW = Steps::BIAS, ALL = Steps::BIAS_FACTOR_RESIDUAL;
        const bool round = params.round_like_diffusers != 0, residual = params.has_residual != 0;
        if (residual || params.gate_column[0] >= 0 || params.gate_column[1] >= 0) {
            if (round) {
                write(residual, LinearEpilogue<Tile, ACTIVATION, ALL, true>(slot));
            } else {
                write(residual, LinearEpilogue<Tile, ACTIVATION, ALL, false>(slot));
            }
        } else if (round) {
            write(false, LinearEpilogue<Tile, ACTIVATION, FEW, true>(slot));
        } else {
            write(false, LinearEpilogue<Tile, ACTIVATION, FEW, false>(slot));
        }
    }
};

// Clocks of a tile on an H100 at K = 3072: 128x256 multiplies for 49,200 (49,152 is what the tensor
// cores need) and finishes in 2,500, with GELU in 5,900. Multiplying in turn hides all but the last
// finish, so that 128x192 overtakes it where there is GELU, though it loads a ninth more bytes
// per product. 256x144 covers [4608, 3072] in exactly three tiles a multiprocessor, and 128x128
// what T5 makes of 512 rows in whole waves but for a few blocks.
using Gemm128x256 = HopperTile<128, 256, 4, 64, 2>;
using Gemm256x144 = HopperTile<256, 144, 4, 48, 2>;
using Gemm128x192 = HopperTile<128, 192, 4, 64, 3, Consumers::IN_TURN>;
using Gemm128x128 = HopperTile<128, 128, 6, 64, 2>;
static_assert(Gemm128x256::SHARED_BYTES == 231584, "header table");
static_assert(Gemm256x144::SHARED_BYTES == 230688, "header table");
static_assert(Gemm128x192::SHARED_BYTES == 216272, "header table");
static_assert(Gemm128x128::SHARED_BYTES == 230592, "header table");

} // namespace flux_rt

#define GEMM_SM90_ENTRY(name, tile, activation)                                                    \
    extern "C" __global__ void __cluster_dims__(flux_rt::tile::CLUSTER, 1, 1)                      \
        __launch_bounds__(flux_rt::tile::THREADS, 1)                                               \
            name(const __grid_constant__ flux_rt::GemmSm90Params params) {                         \
        using Problem = flux_rt::LinearProblem<flux_rt::Activation::activation>;                   \
        flux_rt::run_matrix_kernel<flux_rt::tile, Problem>(params);                                \
    }

GEMM_SM90_ENTRY(gemm_sm90_128x256_none, Gemm128x256, None)
GEMM_SM90_ENTRY(gemm_sm90_256x144_none, Gemm256x144, None)
GEMM_SM90_ENTRY(gemm_sm90_128x192_none, Gemm128x192, None)
GEMM_SM90_ENTRY(gemm_sm90_128x192_gelu_tanh, Gemm128x192, GeluTanh)
GEMM_SM90_ENTRY(gemm_sm90_128x128_none, Gemm128x128, None)
