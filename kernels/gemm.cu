// Linear layers with their epilogue, portable tier (Ampere and newer):
//   out [M, N] = activation(residual [M, N] + gate [N] * (a [M, K] W [N, K]^T + bias [N]))
// for one or two row ranges with weights, bias and gate of their own; without an activation also
//   difference [M, N] = out - from [M, N], of `out` as it is stored.
// Oracle: src/ops/cpu/gemm.rs, launcher: src/ops/cuda/gemm.rs.
//
// Entries gemm_<tile>_<activation>, and gemm_<tile>_difference without an activation; the layers
// with SiLU (embedders) and quick-GELU (CLIP) have few rows, so the small tile alone has them:
//   tile      threads   dynamic shared bytes   entries
//   64x64     128       65,536                 none, silu, gelu_tanh, quick_gelu, difference
//   128x128   128       65,536                 none, gelu_tanh, difference
//   128x256   256       98,304                 none, gelu_tanh, difference
// Grid: (ceil(split / tile rows) + ceil((rows - split) / tile rows))
//       * ceil(columns / tile columns).

#include "common/activation.cuh"
#include "common/bf16.cuh"
#include "common/linear.cuh"
#include "common/tile.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Strides are in elements; every stride, K, N and gate column is a multiple of 8 and every bf16 or
// f32 pointer 16-byte aligned, for 16-byte accesses.
struct GemmParams {
    __nv_bfloat16 *out;              // [rows, columns], row stride out_stride; is not `residual`
    const __nv_bfloat16 *a;          // [rows, k], row stride a_stride
    const __nv_bfloat16 *residual;   // [rows, columns], row stride residual_stride; or null
    const __nv_bfloat16 *weight[2];  // [columns, k] per segment, row stride weight_stride
    const float *bias[2];            // [columns] per segment; or null
    const __nv_bfloat16 *gate_table; // [steps, gate_stride]; unread if both columns are negative
    const uint32_t *step;            // [1]: the row of gate_table
    int32_t rows;                    // M
    int32_t split;                   // rows before it use weights 0, the others weights 1
    int32_t columns;                 // N
    int32_t k;
    int32_t out_stride;
    int32_t a_stride;
    int32_t residual_stride;
    int32_t weight_stride;
    int32_t gate_stride;
    int32_t gate_column[2];       // first column in gate_table per segment; negative: no gate
    int32_t raster_rows;          // row tiles that share a sweep over the columns, at least 1
    int32_t round_like_diffusers; // not 0: round to bf16 wherever PyTorch's bf16 tensors do
    // What follows is read by the entries with a difference.
    int32_t difference_stride;
    __nv_bfloat16 *difference; // [rows, columns], row stride difference_stride; no other operand
    const __nv_bfloat16 *from; // [rows, columns], row stride from_stride; is not `out`
    int32_t from_stride;
    // What follows is read by every entry.
    int32_t gap_at;   // columns of W from there on lie `gap` further; both are multiples of 8
    int32_t gap;      // 0: none is left out
    int32_t reserved; // 0
};
static_assert(sizeof(GemmParams) == 160, "mirrored by the launcher");
static_assert(offsetof(GemmParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(GemmParams, a) == 8, "mirrored by the launcher");
static_assert(offsetof(GemmParams, residual) == 16, "mirrored by the launcher");
static_assert(offsetof(GemmParams, weight) == 24, "mirrored by the launcher");
static_assert(offsetof(GemmParams, bias) == 40, "mirrored by the launcher");
static_assert(offsetof(GemmParams, gate_table) == 56, "mirrored by the launcher");
static_assert(offsetof(GemmParams, step) == 64, "mirrored by the launcher");
static_assert(offsetof(GemmParams, rows) == 72, "mirrored by the launcher");
static_assert(offsetof(GemmParams, split) == 76, "mirrored by the launcher");
static_assert(offsetof(GemmParams, columns) == 80, "mirrored by the launcher");
static_assert(offsetof(GemmParams, k) == 84, "mirrored by the launcher");
static_assert(offsetof(GemmParams, out_stride) == 88, "mirrored by the launcher");
static_assert(offsetof(GemmParams, a_stride) == 92, "mirrored by the launcher");
static_assert(offsetof(GemmParams, residual_stride) == 96, "mirrored by the launcher");
static_assert(offsetof(GemmParams, weight_stride) == 100, "mirrored by the launcher");
static_assert(offsetof(GemmParams, gate_stride) == 104, "mirrored by the launcher");
static_assert(offsetof(GemmParams, gate_column) == 108, "mirrored by the launcher");
static_assert(offsetof(GemmParams, raster_rows) == 116, "mirrored by the launcher");
static_assert(offsetof(GemmParams, round_like_diffusers) == 120, "mirrored by the launcher");
static_assert(offsetof(GemmParams, difference_stride) == 124, "mirrored by the launcher");
static_assert(offsetof(GemmParams, difference) == 128, "mirrored by the launcher");
static_assert(offsetof(GemmParams, from) == 136, "mirrored by the launcher");
static_assert(offsetof(GemmParams, from_stride) == 144, "mirrored by the launcher");
static_assert(offsetof(GemmParams, gap_at) == 148, "mirrored by the launcher");
static_assert(offsetof(GemmParams, gap) == 152, "mirrored by the launcher");
static_assert(offsetof(GemmParams, reserved) == 156, "mirrored by the launcher");

// Finishes eight columns of a row: `values` become what is stored, before its rounding.
template <Activation ACTIVATION> class LinearEpilogue {
    const GemmParams &params;
    const TilePosition at;
    const int column;
    const bool gated;
    float bias[8], gate[8];

  public:
    static constexpr bool LOADS_EARLY = ACTIVATION == Activation::None;
    using Loaded = uint4; // residual

    __device__ __forceinline__ LinearEpilogue(const GemmParams &params, const TilePosition &at,
                                              int column)
        : params(params), at(at), column(column), gated(params.gate_column[at.segment] >= 0),
          bias{}, gate{} {
        const int segment = at.segment;
        if (column >= params.columns) {
            return;
        }
        if (params.bias[segment] != nullptr) {
            load_8(bias, params.bias[segment] + column);
        }
        if (gated) {
            const int64_t table_row = static_cast<int64_t>(*params.step) * params.gate_stride;
            load_8(gate, params.gate_table + table_row + params.gate_column[segment] + column);
        }
    }

    __device__ __forceinline__ bool inside(int tile_row) const {
        return at.row + tile_row < at.row_end && column < params.columns;
    }

    __device__ __forceinline__ Loaded load(int tile_row) const {
        if (params.residual == nullptr || !inside(tile_row)) {
            return make_uint4(0, 0, 0, 0);
        }
        const int64_t row = at.row + tile_row;
        return load_raw_8(params.residual + row * params.residual_stride + column);
    }

    __device__ __forceinline__ void finish(int tile_row, float (&values)[8], Loaded loaded) const {
        if (!inside(tile_row)) {
            return;
        }
        const bool round = params.round_like_diffusers != 0;
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            values[i] += bias[i];
        }
        round_to_bf16_if(round, values);
        if (gated) {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                values[i] *= gate[i];
            }
            round_to_bf16_if(round, values);
        }
        if (params.residual != nullptr) {
            float old[8];
            unpack_8(old, loaded);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                values[i] += old[i];
            }
            round_to_bf16_if(round, values);
        }
        activate<ACTIVATION>(values, round);
        const int64_t row = at.row + tile_row;
        store_8(params.out + row * params.out_stride + column, values);
    }
};

// The same, and the difference. It has entries of its own, since what it loads early takes
// registers.
class DifferenceEpilogue {
    const GemmParams &params;
    const TilePosition at;
    const int column;
    const LinearEpilogue<Activation::None> linear;

  public:
    static constexpr bool LOADS_EARLY = true;
    struct Loaded {
        uint4 residual, from;
    };

    __device__ __forceinline__ DifferenceEpilogue(const GemmParams &params, const TilePosition &at,
                                                  int column)
        : params(params), at(at), column(column), linear(params, at, column) {}

    __device__ __forceinline__ Loaded load(int tile_row) const {
        Loaded loaded = {linear.load(tile_row), make_uint4(0, 0, 0, 0)};
        if (linear.inside(tile_row)) {
            const int64_t row = at.row + tile_row;
            loaded.from = load_raw_8(params.from + row * params.from_stride + column);
        }
        return loaded;
    }

    __device__ __forceinline__ void finish(int tile_row, float (&values)[8], Loaded loaded) const {
        linear.finish(tile_row, values, loaded.residual);
        if (!linear.inside(tile_row)) {
            return;
        }
        float from[8];
        unpack_8(from, loaded.from);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            values[i] = round_to_bf16(values[i]) - from[i];
        }
        const int64_t row = at.row + tile_row;
        store_8(params.difference + row * params.difference_stride + column, values);
    }
};

// Warps of 64x64 where the tile is large: a K step of 16 reads (64 + 64) x 32 bytes of shared
// memory for 65,536 products, two thirds of the bytes that warps of 64x32 need. Estimated, not
// measured: on Hopper 64x32 would need about 120 of the 128 bytes a clock that shared memory gives.
using Gemm64x64 = Tile<64, 64, 64, 4, 2, 2, 3>;
using Gemm128x128 = Tile<128, 128, 32, 4, 2, 2, 2>;
using Gemm128x256 = Tile<128, 256, 32, 4, 2, 4, 1>;
static_assert(Gemm64x64::THREADS == 128 && Gemm64x64::SHARED_BYTES == 65536, "header table");
static_assert(Gemm128x128::THREADS == 128 && Gemm128x128::SHARED_BYTES == 65536, "header table");
static_assert(Gemm128x256::THREADS == 256 && Gemm128x256::SHARED_BYTES == 98304, "header table");

} // namespace flux_rt

#define GEMM_ENTRY(name, tile, epilogue)                                                           \
    extern "C" __global__ void __launch_bounds__(flux_rt::tile::THREADS,                           \
                                                 flux_rt::tile::BLOCKS_PER_SM)                     \
        name(const __grid_constant__ flux_rt::GemmParams params) {                                 \
        using namespace flux_rt;                                                                   \
        linear_block<tile, epilogue>(params);                                                      \
    }

GEMM_ENTRY(gemm_64x64_none, Gemm64x64, LinearEpilogue<Activation::None>)
GEMM_ENTRY(gemm_64x64_silu, Gemm64x64, LinearEpilogue<Activation::Silu>)
GEMM_ENTRY(gemm_64x64_gelu_tanh, Gemm64x64, LinearEpilogue<Activation::GeluTanh>)
GEMM_ENTRY(gemm_64x64_quick_gelu, Gemm64x64, LinearEpilogue<Activation::QuickGelu>)
GEMM_ENTRY(gemm_64x64_difference, Gemm64x64, DifferenceEpilogue)
GEMM_ENTRY(gemm_128x128_none, Gemm128x128, LinearEpilogue<Activation::None>)
GEMM_ENTRY(gemm_128x128_gelu_tanh, Gemm128x128, LinearEpilogue<Activation::GeluTanh>)
GEMM_ENTRY(gemm_128x128_difference, Gemm128x128, DifferenceEpilogue)
GEMM_ENTRY(gemm_128x256_none, Gemm128x256, LinearEpilogue<Activation::None>)
GEMM_ENTRY(gemm_128x256_gelu_tanh, Gemm128x256, LinearEpilogue<Activation::GeluTanh>)
GEMM_ENTRY(gemm_128x256_difference, Gemm128x256, DifferenceEpilogue)
