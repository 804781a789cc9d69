// Attention inputs of a transformer block, portable tier (Ampere and newer): q, k, v = a W^T +
// bias, RMSNorm of q and k over the head, rotary positions, stored as [S, 3, H, Dh]; and in a
// single block mlp [S, M] = GELU(a W^T + bias) from the further rows of W. Oracle:
// src/ops/cpu/gemm_qkv.rs, launcher: src/ops/cuda/gemm_qkv.rs.
//
// Entry              threads   dynamic shared bytes   largest head_dim
// gemm_qkv_64x64     128       65,536                 64
// gemm_qkv_64x128    128       98,304                 128
// gemm_qkv_128x128   128       65,536                 128
// gemm_qkv_128x256   256       98,304                 128
// Grid: (ceil(split / tile rows) + ceil((rows - split) / tile rows))
//       * (3 * ceil(heads * head_dim / tile columns) + ceil(mlp_width / tile columns)).

#include "common/activation.cuh"
#include "common/bf16.cuh"
#include "common/epilogue.cuh"
#include "common/multiply.cuh"
#include "common/qkv_part.cuh"
#include "common/tile.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Strides are in elements; strides, k and mlp_width are multiples of 8, part_row of 4, and pointers
// 16-byte aligned. head_dim is a power of two from 16 to the entry's largest.
struct GemmQkvParams {
    __nv_bfloat16 *qkv;             // [rows, 3, heads, head_dim], contiguous
    __nv_bfloat16 *mlp;             // [rows, mlp_width], row stride mlp_stride; or null
    const __nv_bfloat16 *a;         // [rows, k], row stride a_stride
    const __nv_bfloat16 *weight[2]; // [all rows of W, k] per segment, row stride weight_stride
    const float *bias[2];           // [3 heads head_dim + mlp_width] per segment; or null
    const float *q_norm[2];         // [head_dim] per segment
    const float *k_norm[2];         // [head_dim] per segment
    const float *rope;              // [rows, head_dim / 2, 2]: cos, sin
    int32_t rows;                   // S
    int32_t split;                  // rows before it use weights 0, the others weights 1
    int32_t k;
    int32_t a_stride;
    int32_t weight_stride;
    int32_t heads;
    int32_t head_dim;
    int32_t mlp_width; // 0 without mlp
    int32_t mlp_stride;
    int32_t part_row[4];          // first row of W of q, k, v and mlp
    int32_t raster_rows;          // row tiles that share a sweep over the columns, at least 1
    int32_t round_like_diffusers; // not 0: round to bf16 wherever PyTorch's bf16 tensors do
    float eps;                    // of the RMSNorm
};
static_assert(sizeof(GemmQkvParams) == 160, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, qkv) == 0, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, mlp) == 8, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, a) == 16, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, weight) == 24, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, bias) == 40, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, q_norm) == 56, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, k_norm) == 72, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, rope) == 88, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, rows) == 96, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, split) == 100, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, k) == 104, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, a_stride) == 108, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, weight_stride) == 112, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, heads) == 116, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, head_dim) == 120, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, mlp_width) == 124, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, mlp_stride) == 128, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, part_row) == 132, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, raster_rows) == 148, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, round_like_diffusers) == 152, "mirrored by the launcher");
static_assert(offsetof(GemmQkvParams, eps) == 156, "mirrored by the launcher");

// What both epilogues do: where a thread's eight columns are, and the bias.
class PartEpilogue {
  protected:
    const GemmQkvParams &params;
    const TilePosition at;
    const int part, column;
    const bool column_inside; // the part
    const bool round;
    float bias[8];

    __device__ __forceinline__ PartEpilogue(const GemmQkvParams &params, const TilePosition &at,
                                            PartColumns columns, int tile_column)
        : params(params), at(at), part(columns.part), column(columns.first + tile_column),
          column_inside(column < columns.width), round(params.round_like_diffusers != 0), bias{} {
        const float *const all = params.bias[at.segment];
        if (all != nullptr && column_inside) {
            load_8(bias, all + part * params.heads * params.head_dim + column);
        }
    }

    __device__ __forceinline__ bool inside(int tile_row) const {
        return column_inside && at.row + tile_row < at.row_end;
    }

    __device__ __forceinline__ void add_bias(float (&values)[8]) const {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            values[i] += bias[i];
        }
        round_to_bf16_if(round, values);
    }
};

// Eight columns of q, k or v.
class HeadEpilogue : PartEpilogue {
    float norm[8];

  public:
    static constexpr bool LOADS_EARLY = true;
    // cos, sin of the four pairs
    struct Loaded {
        float angles[8];
    };

    __device__ __forceinline__ HeadEpilogue(const GemmQkvParams &params, const TilePosition &at,
                                            PartColumns columns, int tile_column)
        : PartEpilogue(params, at, columns, tile_column), norm{} {
        if (part <= K) {
            const float *const all =
                part == Q ? params.q_norm[at.segment] : params.k_norm[at.segment];
            load_8(norm, all + column % params.head_dim);
        }
    }

    __device__ __forceinline__ Loaded load(int tile_row) const {
        Loaded loaded = {};
        if (part <= K && inside(tile_row)) {
            const int64_t row = at.row + tile_row;
            load_8(loaded.angles, params.rope + row * params.head_dim + column % params.head_dim);
        }
        return loaded;
    }

    __device__ __forceinline__ void finish(int tile_row, float (&values)[8],
                                           const Loaded &loaded) const {
        add_bias(values);
        if (part <= K) {
            normalize_head(values, norm, params.head_dim, params.eps);
            round_to_bf16_if(round, values);
            rotate(values, loaded.angles);
        }
        if (inside(tile_row)) {
            const int64_t row = at.row + tile_row;
            const int width = params.heads * params.head_dim;
            store_8(params.qkv + (row * 3 + part) * width + column, values);
        }
    }
};

// Eight columns of the MLP's hidden layer.
class MlpEpilogue : PartEpilogue {
  public:
    static constexpr bool LOADS_EARLY = false;
    struct Loaded {};

    __device__ __forceinline__ MlpEpilogue(const GemmQkvParams &params, const TilePosition &at,
                                           PartColumns columns, int tile_column)
        : PartEpilogue(params, at, columns, tile_column) {}

    __device__ __forceinline__ Loaded load(int) const { return {}; }

    __device__ __forceinline__ void finish(int tile_row, float (&values)[8], Loaded) const {
        if (!inside(tile_row)) {
            return;
        }
        add_bias(values);
        activate<Activation::GeluTanh>(values, round);
        const int64_t row = at.row + tile_row;
        store_8(params.mlp + row * params.mlp_stride + column, values);
    }
};

template <class Tile> __device__ __forceinline__ void gemm_qkv(const GemmQkvParams &params) {
    const int width = params.heads * params.head_dim;
    const int tiles_n = 3 * tiles(width, Tile::N) + tiles(params.mlp_width, Tile::N);
    const TilePosition at =
        tile_position<Tile>(blockIdx.x, {params.rows, params.split}, tiles_n, params.raster_rows);
    const PartColumns columns = part_columns<Tile>(width, params.mlp_width, at.tile_n);
    const int weight_row = params.part_row[columns.part] + columns.first;

    MatrixLoader<Tile, Tile::M> a(params.a + static_cast<int64_t>(at.row) * params.a_stride,
                                  params.a_stride, at.row_end - at.row, params.k);
    MatrixLoader<Tile, Tile::N> b(params.weight[at.segment] +
                                      static_cast<int64_t>(weight_row) * params.weight_stride,
                                  params.weight_stride, columns.width - columns.first, params.k);
    Sums<Tile> sums;
    multiply<Tile>(sums, a, b, tiles(params.k, Tile::K));

    if (columns.part == MLP) {
        for_each_row<Tile>(sums, MlpEpilogue(params, at, columns, epilogue_column<Tile>()));
    } else {
        for_each_row<Tile>(sums, HeadEpilogue(params, at, columns, epilogue_column<Tile>()));
    }
}

// The shapes of gemm.cu, and one with a whole head of 128 for few rows.
using Qkv64x64 = Tile<64, 64, 64, 4, 2, 2, 3>;
using Qkv64x128 = Tile<64, 128, 64, 4, 2, 2, 2>;
using Qkv128x128 = Tile<128, 128, 32, 4, 2, 2, 2>;
using Qkv128x256 = Tile<128, 256, 32, 4, 2, 4, 1>;
static_assert(Qkv64x64::THREADS == 128 && Qkv64x64::SHARED_BYTES == 65536, "header table");
static_assert(Qkv64x128::THREADS == 128 && Qkv64x128::SHARED_BYTES == 98304, "header table");
static_assert(Qkv128x128::THREADS == 128 && Qkv128x128::SHARED_BYTES == 65536, "header table");
static_assert(Qkv128x256::THREADS == 256 && Qkv128x256::SHARED_BYTES == 98304, "header table");

} // namespace flux_rt

#define GEMM_QKV_ENTRY(name, tile)                                                                 \
    extern "C" __global__ void __launch_bounds__(flux_rt::tile::THREADS,                           \
                                                 flux_rt::tile::BLOCKS_PER_SM)                     \
        name(const __grid_constant__ flux_rt::GemmQkvParams params) {                              \
        flux_rt::gemm_qkv<flux_rt::tile>(params);                                                  \
    }

GEMM_QKV_ENTRY(gemm_qkv_64x64, Qkv64x64)
GEMM_QKV_ENTRY(gemm_qkv_64x128, Qkv64x128)
GEMM_QKV_ENTRY(gemm_qkv_128x128, Qkv128x128)
GEMM_QKV_ENTRY(gemm_qkv_128x256, Qkv128x256)
