// Linear layers of e4m3 with their epilogue, for compute capability 8.9 and newer (mma.sync):
//   out [M, N] = activation(residual [M, N] + gate [N] * (a [M, K] W [N, K]^T + bias [N]))
// for one or two row ranges with weights, bias and gate of their own, as kernels/gemm.cu. A value
// is its e4m3 number times a scale, one per row of W and one per row of a. Oracle:
// src/ops/cpu/gemm.rs, launcher: src/ops/cuda/gemm/sm89.rs.
//
// Entries gemm_fp8_sm89_<tile>_<kind>, kind row: out in bf16; gelu: in e4m3 in units of columns, of
// GELU, without residual and gate:
//   tile      threads   dynamic shared bytes
//   64x64     128       65,536
//   128x128   128       65,536
//   128x256   256       98,304
// Grid: (ceil(split / tile rows) + ceil((rows - split) / tile rows))
//       * ceil(columns / tile columns).

#include "common/activation.cuh"
#include "common/bf16.cuh"
#include "common/e4m3.cuh"
#include "common/linear.cuh"
#include "common/tile.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Strides are in elements. K and strides of e4m3 are multiples of 16, everything else as in
// GemmParams.
struct GemmFp8Params {
    void *out;                       // [rows, columns] bf16 or e4m3; is not `residual`
    const uint8_t *a;                // [rows, k], row stride a_stride
    const __nv_bfloat16 *residual;   // [rows, columns], row stride residual_stride; or null
    const uint8_t *weight[2];        // [columns, k] per segment, row stride weight_stride
    const float *row_scale;          // [rows], of a
    const float *weight_scale[2];    // [columns] per segment
    const float *bias[2];            // [columns] per segment; or null
    const float *units;              // [columns], powers of two; of kind gelu
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
    int32_t gate_column[2]; // first column in gate_table per segment; negative: no gate
    int32_t raster_rows;    // row tiles that share a sweep over the columns, at least 1
    int32_t gap_at; // columns of W from there on lie `gap` further; both are multiples of 16
    int32_t gap;    // 0: none is left out
};
static_assert(sizeof(GemmFp8Params) == 160, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, out) == 0, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, a) == 8, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, residual) == 16, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, weight) == 24, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, row_scale) == 40, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, weight_scale) == 48, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, bias) == 64, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, units) == 80, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, gate_table) == 88, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, step) == 96, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, rows) == 104, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, split) == 108, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, columns) == 112, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, k) == 116, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, out_stride) == 120, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, a_stride) == 124, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, residual_stride) == 128, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, weight_stride) == 132, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, gate_stride) == 136, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, gate_column) == 140, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, raster_rows) == 148, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, gap_at) == 152, "mirrored by the launcher");
static_assert(offsetof(GemmFp8Params, gap) == 156, "mirrored by the launcher");

// What both kinds do with eight columns of a row: `factor` is the weight's scale.
class ScaledEpilogue {
  protected:
    const GemmFp8Params &params;
    const TilePosition at;
    const int column;
    float factor[8], bias[8];

    __device__ __forceinline__ ScaledEpilogue(const GemmFp8Params &params, const TilePosition &at,
                                              int column)
        : params(params), at(at), column(column), factor{}, bias{} {
        if (column < params.columns) {
            load_8(factor, params.weight_scale[at.segment] + column);
            if (params.bias[at.segment] != nullptr) {
                load_8(bias, params.bias[at.segment] + column);
            }
        }
    }

    __device__ __forceinline__ bool inside(int tile_row) const {
        return at.row + tile_row < at.row_end && column < params.columns;
    }

    __device__ __forceinline__ float row_scale(int tile_row) const {
        return inside(tile_row) ? params.row_scale[at.row + tile_row] : 0.0f;
    }

    __device__ __forceinline__ void scale(float (&values)[8], float row_scale) const {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            values[i] = fmaf(values[i] * row_scale, factor[i], bias[i]);
        }
    }
};

// To bf16.
class RowEpilogue : ScaledEpilogue {
  public:
    static constexpr bool LOADS_EARLY = true;
    struct Loaded {
        uint4 residual;
        float row_scale;
    };

    // gate * (scale * sum + bias) as one multiplication and addition.
    __device__ __forceinline__ RowEpilogue(const GemmFp8Params &params, const TilePosition &at,
                                           int column)
        : ScaledEpilogue(params, at, column) {
        const int gate_column = params.gate_column[at.segment];
        if (gate_column >= 0 && column < params.columns) {
            const int64_t table_row = static_cast<int64_t>(*params.step) * params.gate_stride;
            float gate[8];
            load_8(gate, params.gate_table + table_row + gate_column + column);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                factor[i] *= gate[i];
                bias[i] *= gate[i];
            }
        }
    }

    __device__ __forceinline__ Loaded load(int tile_row) const {
        Loaded loaded = {make_uint4(0, 0, 0, 0), row_scale(tile_row)};
        if (params.residual != nullptr && inside(tile_row)) {
            const int64_t row = at.row + tile_row;
            loaded.residual = load_raw_8(params.residual + row * params.residual_stride + column);
        }
        return loaded;
    }

    __device__ __forceinline__ void finish(int tile_row, float (&values)[8], Loaded loaded) const {
        if (!inside(tile_row)) {
            return;
        }
        scale(values, loaded.row_scale);
        float old[8];
        unpack_8(old, loaded.residual);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            values[i] += old[i];
        }
        const int64_t row = at.row + tile_row;
        store_8(static_cast<__nv_bfloat16 *>(params.out) + row * params.out_stride + column,
                values);
    }
};

// With GELU, to e4m3: value = x / unit of its column.
class GeluEpilogue : ScaledEpilogue {
    float inverse[8]; // of the units

  public:
    static constexpr bool LOADS_EARLY = false;
    using Loaded = float; // scale of the row

    __device__ __forceinline__ GeluEpilogue(const GemmFp8Params &params, const TilePosition &at,
                                            int column)
        : ScaledEpilogue(params, at, column), inverse{} {
        if (column < params.columns) {
            load_8(inverse, params.units + column);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                inverse[i] = 1.0f / inverse[i];
            }
        }
    }

    __device__ __forceinline__ Loaded load(int tile_row) const { return row_scale(tile_row); }

    __device__ __forceinline__ void finish(int tile_row, float (&values)[8], Loaded loaded) const {
        if (!inside(tile_row)) {
            return;
        }
        scale(values, loaded);
        activate<Activation::GeluTanh>(values, false);
        const int64_t row = at.row + tile_row;
        store_e4m3_8(static_cast<uint8_t *>(params.out) + row * params.out_stride + column, values,
                     inverse);
    }
};

// The shapes of gemm.cu in bytes: twice its columns of K.
using Fp8Gemm64x64 = Tile<64, 64, 128, 4, 2, 2, 3, uint8_t>;
using Fp8Gemm128x128 = Tile<128, 128, 64, 4, 2, 2, 2, uint8_t>;
using Fp8Gemm128x256 = Tile<128, 256, 64, 4, 2, 4, 1, uint8_t>;
static_assert(Fp8Gemm64x64::THREADS == 128 && Fp8Gemm64x64::SHARED_BYTES == 65536, "header table");
static_assert(Fp8Gemm128x128::THREADS == 128 && Fp8Gemm128x128::SHARED_BYTES == 65536,
              "header table");
static_assert(Fp8Gemm128x256::THREADS == 256 && Fp8Gemm128x256::SHARED_BYTES == 98304,
              "header table");

} // namespace flux_rt

#define GEMM_FP8_SM89_ENTRY(name, tile, epilogue)                                                  \
    extern "C" __global__ void __launch_bounds__(flux_rt::tile::THREADS,                           \
                                                 flux_rt::tile::BLOCKS_PER_SM)                     \
        name(const __grid_constant__ flux_rt::GemmFp8Params params) {                              \
        flux_rt::linear_block<flux_rt::tile, flux_rt::epilogue>(params);                           \
    }

GEMM_FP8_SM89_ENTRY(gemm_fp8_sm89_64x64_row, Fp8Gemm64x64, RowEpilogue)
GEMM_FP8_SM89_ENTRY(gemm_fp8_sm89_64x64_gelu, Fp8Gemm64x64, GeluEpilogue)
GEMM_FP8_SM89_ENTRY(gemm_fp8_sm89_128x128_row, Fp8Gemm128x128, RowEpilogue)
GEMM_FP8_SM89_ENTRY(gemm_fp8_sm89_128x128_gelu, Fp8Gemm128x128, GeluEpilogue)
GEMM_FP8_SM89_ENTRY(gemm_fp8_sm89_128x256_row, Fp8Gemm128x256, RowEpilogue)
GEMM_FP8_SM89_ENTRY(gemm_fp8_sm89_128x256_gelu, Fp8Gemm128x256, GeluEpilogue)
