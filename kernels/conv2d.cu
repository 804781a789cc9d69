// Convolutions over channels-last images as implicit matrix products, portable tier (Ampere and
// newer): out [H', W', C_out] = residual + conv(x [H, W, C_in]) + bias. A row of the product is an
// output pixel, its K columns are the window's taps times the channels, read from the image in
// place. Oracle: src/ops/cpu/conv2d.rs, launcher: src/ops/cuda/conv2d.rs.
//
// Entry               threads   dynamic shared bytes   channels
// conv2d_64x64        128       65,536                 C_in a multiple of 8
// conv2d_128x128      128       65,536                 C_in a multiple of 8
// conv2d_128x256      256       98,304                 C_in a multiple of 8
// conv2d_64x64_scalar 128       65,536                 any C_in, slow: 3 to 4 image channels
// Grid: ceil(out_height * out_width / tile rows) * ceil(out_channels / tile columns).

#include "common/bf16.cuh"
#include "common/epilogue.cuh"
#include "common/multiply.cuh"
#include "common/tile.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// All tensors are contiguous and their pointers 16-byte aligned. C_out may be any number; a
// multiple of 8 is stored 16 bytes at a time.
struct Conv2dParams {
    __nv_bfloat16 *out;            // [out_height, out_width, out_channels]
    const __nv_bfloat16 *x;        // [in_height, in_width, in_channels]
    const __nv_bfloat16 *weight;   // [out_channels, kernel, kernel, in_channels]
    const float *bias;             // [out_channels]; or null
    const __nv_bfloat16 *residual; // like out; or null
    int32_t in_height;
    int32_t in_width;
    int32_t in_channels;
    int32_t out_height;
    int32_t out_width;
    int32_t out_channels;
    int32_t kernel;               // odd
    int32_t stride;               // 1 or 2
    int32_t padding;              // zeros above and to the left; below and right as many as needed
    int32_t raster_rows;          // row tiles that share a sweep over the columns, at least 1
    int32_t round_like_diffusers; // not 0: round to bf16 wherever PyTorch's bf16 tensors do
    int32_t reserved;             // 0
};
static_assert(sizeof(Conv2dParams) == 88, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, x) == 8, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, weight) == 16, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, bias) == 24, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, residual) == 32, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, in_height) == 40, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, in_width) == 44, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, in_channels) == 48, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, out_height) == 52, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, out_width) == 56, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, out_channels) == 60, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, kernel) == 64, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, stride) == 68, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, padding) == 72, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, raster_rows) == 76, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, round_like_diffusers) == 80, "mirrored by the launcher");
static_assert(offsetof(Conv2dParams, reserved) == 84, "mirrored by the launcher");

// Where the windows of the pixels that this thread copies start, and the image they lie in.
template <class Tile> class Windows {
    using Map = ChunkMap<Tile, Tile::M>;

    const Conv2dParams &params;
    int top[Map::COUNT], left[Map::COUNT];

  public:
    __device__ __forceinline__ Windows(const Conv2dParams &params, int first_pixel)
        : params(params) {
        const int pixels = params.out_height * params.out_width;
#pragma unroll
        for (int i = 0; i < Map::COUNT; ++i) {
            const int pixel = first_pixel + Map::row() + i * Map::ROW_STEP;
            const int y = pixel / params.out_width, x = pixel % params.out_width;
            // A window so far above the image that all of it is padding.
            top[i] = pixel < pixels ? y * params.stride - params.padding : -(1 << 24);
            left[i] = x * params.stride - params.padding;
        }
    }

    // Channel 0 of the pixel under tap (dy, dx) of window i; null in the padding.
    __device__ __forceinline__ const __nv_bfloat16 *pixel(int i, int dy, int dx) const {
        const int y = top[i] + dy, x = left[i] + dx;
        const bool inside = static_cast<unsigned>(y) < static_cast<unsigned>(params.in_height) &&
                            static_cast<unsigned>(x) < static_cast<unsigned>(params.in_width);
        const int64_t index = static_cast<int64_t>(y) * params.in_width + x;
        return inside ? params.x + index * params.in_channels : nullptr;
    }
};

// Loads slabs of the windows' rows; eight columns of K are channels of one tap.
template <class Tile> class WindowLoader {
    using Map = ChunkMap<Tile, Tile::M>;

    const Conv2dParams &params;
    const Windows<Tile> windows;
    int dy, dx, channel; // of this thread's chunk of the next slab

    // Carries channels beyond the last into the next taps.
    __device__ __forceinline__ void carry() {
        while (channel >= params.in_channels) {
            channel -= params.in_channels;
            if (++dx == params.kernel) {
                dx = 0;
                ++dy;
            }
        }
    }

  public:
    __device__ __forceinline__ WindowLoader(const Conv2dParams &params, int first_pixel)
        : params(params), windows(params, first_pixel), dy(0), dx(0), channel(Map::chunk() * 8) {
        carry();
    }

    __device__ __forceinline__ void load(uint32_t tile) {
#pragma unroll
        for (int i = 0; i < Map::COUNT; ++i) {
            const __nv_bfloat16 *const pixel = windows.pixel(i, dy, dx);
            cp_async_16(tile + Map::shared_offset() + i * Map::SHARED_STEP, pixel + channel,
                        pixel != nullptr && dy < params.kernel);
        }
        channel += Tile::K;
        carry();
    }
};

// Eight bf16 to the shared address that cp_async_16 would write, by an ordinary store; the main
// loop's barriers order it too.
__device__ __forceinline__ void store_chunk(uint32_t address, const __nv_bfloat16 (&values)[8]) {
    uint4 raw;
    memcpy(&raw, values, sizeof raw);
    uint8_t *const shared = dynamic_shared();
    *reinterpret_cast<uint4 *>(shared + (address - shared_address(shared))) = raw;
}

// WindowLoader for any number of channels: element by element.
template <class Tile> class ScalarWindowLoader {
    using Map = ChunkMap<Tile, Tile::M>;

    const Conv2dParams &params;
    const Windows<Tile> windows;
    int column; // of K, first of this thread's chunk of the next slab

  public:
    __device__ __forceinline__ ScalarWindowLoader(const Conv2dParams &params, int first_pixel)
        : params(params), windows(params, first_pixel), column(Map::chunk() * 8) {}

    __device__ __forceinline__ void load(uint32_t tile) {
#pragma unroll // indexing the windows by a variable would put them into local memory
        for (int i = 0; i < Map::COUNT; ++i) {
            __nv_bfloat16 values[8];
#pragma unroll
            for (int e = 0; e < 8; ++e) {
                const int tap = (column + e) / params.in_channels;
                const int channel = (column + e) % params.in_channels;
                const int dy = tap / params.kernel, dx = tap % params.kernel;
                const __nv_bfloat16 *const pixel =
                    dy < params.kernel ? windows.pixel(i, dy, dx) : nullptr;
                values[e] = pixel != nullptr ? pixel[channel] : __float2bfloat16_rn(0.0f);
            }
            store_chunk(tile + Map::shared_offset() + i * Map::SHARED_STEP, values);
        }
        column += Tile::K;
    }
};

// MatrixLoader for weight rows of any length.
template <class Tile> class ScalarWeightLoader {
    using Map = ChunkMap<Tile, Tile::N>;

    const Conv2dParams &params;
    const int first_row, k;
    int column;

  public:
    __device__ __forceinline__ ScalarWeightLoader(const Conv2dParams &params, int first_row, int k)
        : params(params), first_row(first_row), k(k), column(Map::chunk() * 8) {}

    __device__ __forceinline__ void load(uint32_t tile) {
        for (int i = 0; i < Map::COUNT; ++i) {
            const int row = first_row + Map::row() + i * Map::ROW_STEP;
            __nv_bfloat16 values[8];
#pragma unroll
            for (int e = 0; e < 8; ++e) {
                const bool inside = row < params.out_channels && column + e < k;
                const int64_t index = static_cast<int64_t>(row) * k + column + e;
                values[e] = inside ? params.weight[index] : __float2bfloat16_rn(0.0f);
            }
            store_chunk(tile + Map::shared_offset() + i * Map::SHARED_STEP, values);
        }
        column += Tile::K;
    }
};

// Finishes eight channels of a pixel, or as many of them as there are.
class ConvEpilogue {
    const Conv2dParams &params;
    const int first_pixel, channel;
    const bool whole; // all eight, and 16-byte aligned
    float bias[8];

    __device__ __forceinline__ bool inside(int tile_row) const {
        return first_pixel + tile_row < params.out_height * params.out_width &&
               channel < params.out_channels;
    }

    // Of the first channel, in out and residual.
    __device__ __forceinline__ int64_t index(int tile_row) const {
        return static_cast<int64_t>(first_pixel + tile_row) * params.out_channels + channel;
    }

  public:
    static constexpr bool LOADS_EARLY = true;
    using Loaded = uint4; // residual, if `whole`

    __device__ __forceinline__ ConvEpilogue(const Conv2dParams &params, int first_pixel,
                                            int channel)
        : params(params), first_pixel(first_pixel), channel(channel),
          whole(params.out_channels % 8 == 0), bias{} {
        if (params.bias != nullptr) {
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                bias[i] = channel + i < params.out_channels ? params.bias[channel + i] : 0.0f;
            }
        }
    }

    __device__ __forceinline__ Loaded load(int tile_row) const {
        if (params.residual == nullptr || !whole || !inside(tile_row)) {
            return make_uint4(0, 0, 0, 0);
        }
        return load_raw_8(params.residual + index(tile_row));
    }

    __device__ __forceinline__ void finish(int tile_row, float (&values)[8], Loaded loaded) const {
        if (!inside(tile_row)) {
            return;
        }
        const bool round = params.round_like_diffusers != 0;
        // cuDNN rounds the product; PyTorch adds the bias after it and rounds again.
        round_to_bf16_if(round, values);
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            values[i] += bias[i];
        }
        round_to_bf16_if(round, values);
        if (params.residual != nullptr) {
            float old[8];
            unpack_8(old, loaded);
            if (!whole) {
                load_some(old, params.residual + index(tile_row));
            }
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                values[i] += old[i];
            }
        }
        if (whole) {
            store_8(params.out + index(tile_row), values);
        } else {
            store_some(params.out + index(tile_row), values);
        }
    }

  private:
    __device__ __forceinline__ void load_some(float (&values)[8],
                                              const __nv_bfloat16 *source) const {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            if (channel + i < params.out_channels) {
                values[i] = __bfloat162float(source[i]);
            }
        }
    }

    __device__ __forceinline__ void store_some(__nv_bfloat16 *target,
                                               const float (&values)[8]) const {
#pragma unroll
        for (int i = 0; i < 8; ++i) {
            if (channel + i < params.out_channels) {
                target[i] = __float2bfloat16_rn(values[i]);
            }
        }
    }
};

template <class Tile, bool SCALAR>
__device__ __forceinline__ void conv2d(const Conv2dParams &params) {
    const int pixels = params.out_height * params.out_width;
    const TilePosition at = tile_position<Tile>(
        blockIdx.x, {pixels, pixels}, tiles(params.out_channels, Tile::N), params.raster_rows);
    const int first_channel = at.tile_n * Tile::N;
    const int k = params.kernel * params.kernel * params.in_channels;
    const int slabs = tiles(k, Tile::K);

    Sums<Tile> sums;
    if constexpr (SCALAR) {
        ScalarWindowLoader<Tile> a(params, at.row);
        ScalarWeightLoader<Tile> b(params, first_channel, k);
        multiply<Tile>(sums, a, b, slabs);
    } else {
        WindowLoader<Tile> a(params, at.row);
        MatrixLoader<Tile, Tile::N> b(params.weight + static_cast<int64_t>(first_channel) * k, k,
                                      params.out_channels - first_channel, k);
        multiply<Tile>(sums, a, b, slabs);
    }
    const int channel = first_channel + epilogue_column<Tile>();
    for_each_row<Tile>(sums, ConvEpilogue(params, at.row, channel));
}

using Conv64x64 = Tile<64, 64, 64, 4, 2, 2, 3>;
using Conv128x128 = Tile<128, 128, 32, 4, 2, 2, 2>;
using Conv128x256 = Tile<128, 256, 32, 4, 2, 4, 1>;
static_assert(Conv64x64::THREADS == 128 && Conv64x64::SHARED_BYTES == 65536, "header table");
static_assert(Conv128x128::THREADS == 128 && Conv128x128::SHARED_BYTES == 65536, "header table");
static_assert(Conv128x256::THREADS == 256 && Conv128x256::SHARED_BYTES == 98304, "header table");

} // namespace flux_rt

#define CONV2D_ENTRY(name, tile, scalar)                                                           \
    extern "C" __global__ void __launch_bounds__(flux_rt::tile::THREADS,                           \
                                                 flux_rt::tile::BLOCKS_PER_SM)                     \
        name(const __grid_constant__ flux_rt::Conv2dParams params) {                               \
        flux_rt::conv2d<flux_rt::tile, scalar>(params);                                            \
    }

CONV2D_ENTRY(conv2d_64x64, Conv64x64, false)
CONV2D_ENTRY(conv2d_128x128, Conv128x128, false)
CONV2D_ENTRY(conv2d_128x256, Conv128x256, false)
CONV2D_ENTRY(conv2d_64x64_scalar, Conv64x64, true)
