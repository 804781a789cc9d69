// Convolutions of stride 1 over channels-last images, Hopper tier (sm_90a):
//   out [H, W, C_out] = residual + conv(x [H, W, C_in]) + bias
// as kernels/conv2d.cu. The rows of a tile are the pixels of a patch 16 wide; under each tap of the
// window they are a box of x, which a bulk copy fetches, zeros for the padding.
//
// Entry                dynamic shared bytes   patch     C_out
// conv2d_sm90_128x256  231,584                16 x 8    256 and more
// conv2d_sm90_256x128  230,560                16 x 16   128
// 384 threads, clusters of 2 blocks along x. Grid: 2 * min(multiprocessors / 2, cluster tiles), of
// which there are ceil(patches / 2) * ceil(C_out / tile columns).
// May be launched with programmatic stream serialization.

#include "common/hopper/linear_epilogue.cuh"
#include "common/hopper/matrix_kernel.cuh"
#include "common/hopper/tensor_map.cuh"
#include "common/hopper/tile.cuh"

#include <cstddef>
#include <cstdint>

namespace flux_rt {

// The second map of each pair is the first once more.
struct Conv2dSm90Params {
    TensorMap a[2];        // x [H, W, C_in], boxes of 64 channels x 16 x tile rows / 16
    TensorMap weight[2];   // [C_out, k], boxes of 64 columns x tile columns / 2
    TensorMap out[2];      // [H, W, C_out], boxes of 64 channels x 16 x 4
    TensorMap residual[2]; // like out; unread unless has_residual
    const float *bias;     // [C_out]
    int32_t rows[2];       // patches * tile rows; 0
    int32_t columns;       // C_out
    int32_t k;             // kernel * kernel * C_in
    int32_t raster_rows;   // cluster tiles that share a sweep over the columns, at least 1
    int32_t channels;      // C_in, a multiple of 64
    int32_t kernel;        // 1 or 3
    int32_t patches_x;     // patches beside each other
    int32_t has_residual;  // not 0: `residual` is read
    int32_t reserved[5];   // 0
};
static_assert(sizeof(Conv2dSm90Params) == 1088, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, a) == 0, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, weight) == 256, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, out) == 512, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, residual) == 768, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, bias) == 1024, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, rows) == 1032, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, columns) == 1040, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, k) == 1044, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, raster_rows) == 1048, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, channels) == 1052, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, kernel) == 1056, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, patches_x) == 1060, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, has_residual) == 1064, "mirrored by the launcher");
static_assert(offsetof(Conv2dSm90Params, reserved) == 1068, "mirrored by the launcher");

constexpr int PATCH_WIDTH = 16;

// A convolution as the frame runs it: row r of patch p is row p * ROWS + r of the product.
template <int ROWS> class ConvolutionProblem : public WholeWeight {
    const Conv2dSm90Params &params;

    struct Pixel {
        int y, x;
    };

    // Of the product's row, a multiple of PATCH_WIDTH.
    __device__ __forceinline__ Pixel pixel(int row) const {
        const int patch = row / ROWS;
        return {patch / params.patches_x * (ROWS / PATCH_WIDTH) + row % ROWS / PATCH_WIDTH,
                patch % params.patches_x * PATCH_WIDTH};
    }

  public:
    __device__ __forceinline__ explicit ConvolutionProblem(const Conv2dSm90Params &params)
        : params(params) {}

    // A slab of columns lies under one tap.
    __device__ __forceinline__ void load_a(uint32_t shared, uint32_t barrier, int, int row,
                                           int column) const {
        const Pixel at = pixel(row);
        const int tap = column / params.channels, channel = column % params.channels;
        const int dy = tap / params.kernel - params.kernel / 2;
        const int dx = tap % params.kernel - params.kernel / 2;
        load_image_box(shared, params.a[0], barrier, at.y + dy, at.x + dx, channel);
    }

    __device__ __forceinline__ bool has_residual() const { return params.has_residual != 0; }

    __device__ __forceinline__ void load_residual(uint32_t shared, uint32_t barrier, int, int row,
                                                  int column) const {
        const Pixel at = pixel(row);
        load_image_box(shared, params.residual[0], barrier, at.y, at.x, column);
    }

    __device__ __forceinline__ void store(uint32_t shared, int, int row, int column) const {
        const Pixel at = pixel(row);
        store_image_box(params.out[0], shared, at.y, at.x, column);
    }

    template <class Tile> __device__ __forceinline__ int chunk_columns() const {
        return Tile::CHUNK_COLUMNS;
    }

    __device__ __forceinline__ ColumnPair column_pair(int, int column) const {
        ColumnPair loaded{{0.0f, 0.0f}, {1.0f, 1.0f}};
        if (column < params.columns) {
            loaded.bias[0] = params.bias[column];
            loaded.bias[1] = params.bias[column + 1];
        }
        return loaded;
    }

    template <class Tile, class Write>
    __device__ __forceinline__ void finish(const HopperSums<Tile> &, const TileSchedule<Tile> &,
                                           int, int slot, const Write &write) const {
        constexpr Steps FEW = Steps::BIAS, ALL = Steps::BIAS_FACTOR_RESIDUAL;
        if (params.has_residual != 0) {
            write(true, LinearEpilogue<Tile, Activation::None, ALL, false>(slot));
        } else {
            write(false, LinearEpilogue<Tile, Activation::None, FEW, false>(slot));
        }
    }
};

using Conv128x256 = HopperTile<128, 256, 4, 64, 2>;
using Conv256x128 = HopperTile<256, 128, 4, 64, 2>;
static_assert(Conv128x256::SHARED_BYTES == 231584, "header table");
static_assert(Conv256x128::SHARED_BYTES == 230560, "header table");

} // namespace flux_rt

#define CONV2D_SM90_ENTRY(name, tile)                                                              \
    extern "C" __global__ void __cluster_dims__(flux_rt::tile::CLUSTER, 1, 1)                      \
        __launch_bounds__(flux_rt::tile::THREADS, 1)                                               \
            name(const __grid_constant__ flux_rt::Conv2dSm90Params params) {                       \
        using Problem = flux_rt::ConvolutionProblem<flux_rt::tile::M>;                             \
        flux_rt::run_matrix_kernel<flux_rt::tile, Problem>(params);                                \
    }

CONV2D_SM90_ENTRY(conv2d_sm90_128x256, Conv128x256)
CONV2D_SM90_ENTRY(conv2d_sm90_256x128, Conv256x128)
