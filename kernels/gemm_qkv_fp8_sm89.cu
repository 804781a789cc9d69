// Attention inputs of a transformer block from e4m3, for compute capability 8.9 and newer
// (mma.sync): q, k, v = a W^T + bias, RMSNorm of q and k over the head, rotary positions, stored as
// bf16 [S, 3, H, Dh], as kernels/gemm_qkv.cu. A value of a is its e4m3 number times a scale per
// row, and one of W times a scale per output channel. Oracle: src/ops/cpu/gemm_qkv.rs, launcher:
// src/ops/cuda/gemm_qkv/sm89.rs.
//
// Entry                       threads   dynamic shared bytes
// gemm_qkv_fp8_sm89_64x128    128       98,304
// gemm_qkv_fp8_sm89_128x128   128       65,536
// gemm_qkv_fp8_sm89_128x256   256       98,304
// Grid: (ceil(split / tile rows) + ceil((rows - split) / tile rows))
//       * 3 * ceil(heads * head_dim / tile columns).

#include "common/bf16.cuh"
#include "common/epilogue.cuh"
#include "common/multiply.cuh"
#include "common/qkv_part.cuh"
#include "common/tile.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Strides are in elements; they and k are multiples of 16, and pointers 16-byte aligned. head_dim
// is a power of two from 16 to 128.
struct GemmQkvFp8Params {
    __nv_bfloat16 *qkv;           // [rows, 3, heads, head_dim], contiguous
    const uint8_t *a;             // [rows, k], row stride a_stride
    const uint8_t *weight[2];     // [rows of W, k] per segment, row stride weight_stride
    const float *row_scale;       // [rows], of a
    const float *weight_scale[2]; // [rows of W] per segment
    const float *bias[2];         // [3 heads head_dim] per segment; or null
    const float *q_norm[2];       // [head_dim] per segment
    const float *k_norm[2];       // [head_dim] per segment
    const float *rope;            // [rows, head_dim / 2, 2]: cos, sin
    int32_t rows;                 // S
    int32_t split;                // rows before it use weights 0, the others weights 1
    int32_t k;
    int32_t a_stride;
    int32_t weight_stride;
    int32_t heads;
    int32_t head_dim;
    int32_t raster_rows; // row tiles that share a sweep over the columns, at least 1
    float eps;           // of the RMSNorm
    int32_t part_rows;   // rows of W of q, of k and of v, a multiple of 4
};
static_assert(sizeof(GemmQkvFp8Params) == 152, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, qkv) == 0, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, a) == 8, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, weight) == 16, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, row_scale) == 32, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, weight_scale) == 40, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, bias) == 56, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, q_norm) == 72, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, k_norm) == 88, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, rope) == 104, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, rows) == 112, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, split) == 116, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, k) == 120, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, a_stride) == 124, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, weight_stride) == 128, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, heads) == 132, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, head_dim) == 136, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, raster_rows) == 140, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, eps) == 144, "mirrored by the launcher");
static_assert(offsetof(GemmQkvFp8Params, part_rows) == 148, "mirrored by the launcher");

// Eight columns of q, k or v.
class HeadFp8Epilogue {
    const GemmQkvFp8Params &params;
    const TilePosition at;
    const int part, column;
    const bool column_inside; // the part
    float factor[8], bias[8], norm[8];

  public:
    static constexpr bool LOADS_EARLY = true;
    struct Loaded {
        float angles[8]; // cos, sin of the four pairs
        float row_scale;
    };

    __device__ __forceinline__ HeadFp8Epilogue(const GemmQkvFp8Params &params,
                                               const TilePosition &at, PartColumns columns,
                                               int tile_column)
        : params(params), at(at), part(columns.part), column(columns.first + tile_column),
          column_inside(column < columns.width), factor{}, bias{}, norm{} {
        const int segment = at.segment, of_all = part * columns.width + column;
        if (column_inside) {
            load_8(factor, params.weight_scale[segment] + part * params.part_rows + column);
            if (params.bias[segment] != nullptr) {
                load_8(bias, params.bias[segment] + of_all);
            }
        }
        if (part <= K) {
            const float *const all = part == Q ? params.q_norm[segment] : params.k_norm[segment];
            load_8(norm, all + column % params.head_dim);
        }
    }

    __device__ __forceinline__ bool inside(int tile_row) const {
        return column_inside && at.row + tile_row < at.row_end;
    }

    __device__ __forceinline__ Loaded load(int tile_row) const {
        Loaded loaded = {};
        if (inside(tile_row)) {
            const int64_t row = at.row + tile_row;
            loaded.row_scale = params.row_scale[row];
            if (part <= K) {
                load_8(loaded.angles,
                       params.rope + row * params.head_dim + column % params.head_dim);
            }
        }
        return loaded;
    }

    __device__ __forceinline__ void finish(int tile_row, float (&values)[8],
                                           const Loaded &loaded) const {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            values[i] = fmaf(values[i] * loaded.row_scale, factor[i], bias[i]);
        }
        if (part <= K) {
            normalize_head(values, norm, params.head_dim, params.eps);
            rotate(values, loaded.angles);
        }
        if (inside(tile_row)) {
            const int64_t row = at.row + tile_row;
            const int width = params.heads * params.head_dim;
            store_8(params.qkv + (row * 3 + part) * width + column, values);
        }
    }
};

template <class Tile> __device__ __forceinline__ void gemm_qkv_fp8(const GemmQkvFp8Params &params) {
    const int width = params.heads * params.head_dim;
    const TilePosition at = tile_position<Tile>(blockIdx.x, {params.rows, params.split},
                                                3 * tiles(width, Tile::N), params.raster_rows);
    const PartColumns columns = part_columns<Tile>(width, 0, at.tile_n);
    const int weight_row = columns.part * params.part_rows + columns.first;

    MatrixLoader<Tile, Tile::M> a(params.a + static_cast<int64_t>(at.row) * params.a_stride,
                                  params.a_stride, at.row_end - at.row, params.k);
    MatrixLoader<Tile, Tile::N> b(params.weight[at.segment] +
                                      static_cast<int64_t>(weight_row) * params.weight_stride,
                                  params.weight_stride, width - columns.first, params.k);
    Sums<Tile> sums;
    multiply<Tile>(sums, a, b, tiles(params.k, Tile::K));
    for_each_row<Tile>(sums, HeadFp8Epilogue(params, at, columns, epilogue_column<Tile>()));
}

// The shapes of gemm_qkv.cu in bytes: twice its columns of K.
using QkvFp8_64x128 = Tile<64, 128, 128, 4, 2, 2, 2, uint8_t>;
using QkvFp8_128x128 = Tile<128, 128, 64, 4, 2, 2, 2, uint8_t>;
using QkvFp8_128x256 = Tile<128, 256, 64, 4, 2, 4, 1, uint8_t>;
static_assert(QkvFp8_64x128::THREADS == 128 && QkvFp8_64x128::SHARED_BYTES == 98304,
              "header table");
static_assert(QkvFp8_128x128::THREADS == 128 && QkvFp8_128x128::SHARED_BYTES == 65536,
              "header table");
static_assert(QkvFp8_128x256::THREADS == 256 && QkvFp8_128x256::SHARED_BYTES == 98304,
              "header table");

} // namespace flux_rt

#define GEMM_QKV_FP8_SM89_ENTRY(name, tile)                                                        \
    extern "C" __global__ void __launch_bounds__(flux_rt::tile::THREADS,                           \
                                                 flux_rt::tile::BLOCKS_PER_SM)                     \
        name(const __grid_constant__ flux_rt::GemmQkvFp8Params params) {                           \
        flux_rt::gemm_qkv_fp8<flux_rt::tile>(params);                                              \
    }

GEMM_QKV_FP8_SM89_ENTRY(gemm_qkv_fp8_sm89_64x128, QkvFp8_64x128)
GEMM_QKV_FP8_SM89_ENTRY(gemm_qkv_fp8_sm89_128x128, QkvFp8_128x128)
GEMM_QKV_FP8_SM89_ENTRY(gemm_qkv_fp8_sm89_128x256, QkvFp8_128x256)
