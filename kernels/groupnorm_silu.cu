/* out [P, C] = GroupNorm(x [P, C]) * weight [C] + bias [C], SiLU behind it where asked for; P
   pixels, channels last, statistics over all pixels and the channels of a group: spec flux 7.1.
   Oracle: src/ops/cpu/groupnorm_silu.rs, launcher: src/ops/cuda/groupnorm_silu.rs.

   Three entries with the same params, 256 threads, no dynamic shared memory, one after another:
     groupnorm_silu_partial  grid (blocks)  sums of each block's pixels, per group
     groupnorm_silu_combine  grid (groups)  the blocks' sums, added in order: factor and offset
     groupnorm_silu_apply    grid (blocks)  out = activation(factor * x + offset)
   blocks = ceil(P / pixels_per_block). Results depend on pixels_per_block in the last bits, so it
   should follow from the shape alone. */

#include "common/activation.cuh"
#include "common/reduce.cuh"
#include "common/vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

constexpr int GROUPNORM_THREADS = 256;
// Pixels that a thread loads before it handles the first: the compiler cannot know that `out` is
// not `x`, nor load past the loop's end, and would wait for each.
constexpr int GROUPNORM_BATCH = 4;

// Either C is a multiple of 8, at most 1,024, and `out` and `x` are 16-byte aligned (16-byte
// accesses), or C is at most 256.
struct GroupnormSiluParams {
    __nv_bfloat16 *out;       // [pixels, channels]
    const __nv_bfloat16 *x;   // [pixels, channels]
    const float *weight;      // [channels]
    const float *bias;        // [channels]
    double *partial;          // scratch, 16-byte aligned: [blocks, groups] of sum, sum of squares
    float *affine;            // scratch, 16-byte aligned: factors, then offsets, [channels] each
    int32_t pixels;           // P, at least 1
    int32_t channels;         // C
    int32_t groups;           // divides C; at most 256
    int32_t pixels_per_block; // at least 1
    float eps;                // added to the variance
    int32_t silu;             // not 0: SiLU at the end
    int32_t round_like_diffusers; // not 0: mean, 1 / deviation and the norm are rounded to bf16
    int32_t reserved;             // 0
};
static_assert(sizeof(GroupnormSiluParams) == 80, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, x) == 8, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, weight) == 16, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, bias) == 24, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, partial) == 32, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, affine) == 40, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, pixels) == 48, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, channels) == 52, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, groups) == 56, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, pixels_per_block) == 60, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, eps) == 64, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, silu) == 68, "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, round_like_diffusers) == 72,
              "mirrored by the launcher");
static_assert(offsetof(GroupnormSiluParams, reserved) == 76, "mirrored by the launcher");

// Which part of a block's pixels a thread handles: WIDTH channels from `channel` on, of the pixels
// `pixel`, `pixel + lanes`, ... before `end`. Neighbouring threads take neighbouring channels.
template <int WIDTH> struct PixelShare {
    int32_t slots; // threads that share a pixel
    int32_t lanes; // pixels that the block handles at once
    int32_t lane;  // this thread's; at or above `lanes` the thread has no work
    int32_t channel;
    int32_t start; // first pixel of the block
    int32_t pixel;
    int32_t end; // one past the last pixel of the block

    // Of block `block` of the image.
    __device__ __forceinline__ PixelShare(const GroupnormSiluParams &params, uint32_t block) {
        const int32_t thread = static_cast<int32_t>(threadIdx.x);
        slots = params.channels / WIDTH;
        lanes = GROUPNORM_THREADS / slots;
        lane = thread / slots;
        channel = thread % slots * WIDTH;
        start = static_cast<int32_t>(block) * params.pixels_per_block;
        end = min(start + params.pixels_per_block, params.pixels);
        pixel = lane < lanes ? start + lane : end;
    }

    // Where this thread's channels of a pixel lie in an image.
    __device__ __forceinline__ int64_t offset(const GroupnormSiluParams &params,
                                              int32_t of_pixel) const {
        return static_cast<int64_t>(of_pixel) * params.channels + channel;
    }
};

// Sum and sum of squares.
struct Sums {
    double sum, square;

    __device__ __forceinline__ void add(const Sums &other) {
        sum += other.sum;
        square += other.square;
    }
};

// Where a block collects the sums of groups that are whole vectors, or of which some make up one.
struct GroupnormGroupSums {
    // [lanes, slots, groups in a vector]; at most eight groups in a vector.
    Sums of_thread[GROUPNORM_THREADS * 8];
};

// Where a block collects its sums: of every thread's channels, then of every channel.
struct GroupnormShared {
    // [lanes, channels]: at most 256 threads of eight channels.
    float sums[GROUPNORM_THREADS * 8];
    float squares[GROUPNORM_THREADS * 8];
    double channel_sums[1024];
    double channel_squares[1024];
};

// A group's sums of this block, where groupnorm_silu_combine reads them one block after the other.
__device__ __forceinline__ void store_partial(const GroupnormSiluParams &params, int32_t group,
                                              const Sums &sums) {
    const int64_t at = static_cast<int64_t>(group) * gridDim.x + blockIdx.x;
    reinterpret_cast<double2 *>(params.partial)[at] = make_double2(sums.sum, sums.square);
}

// Adds channels to groups in each thread and then over the threads, in f64 and about 0: `sums` and
// `squares` are of `count` differences from `origin`.
template <int WIDTH>
__device__ __forceinline__ void
add_groups(const GroupnormSiluParams &params, const PixelShare<WIDTH> &share,
           GroupnormGroupSums &shared, const float (&origin)[WIDTH], const float (&sums)[WIDTH],
           const float (&squares)[WIDTH], double count) {
    const int32_t size = params.channels / params.groups;
    // Groups of a vector, and vectors of a group: one of them is 1.
    const int32_t groups = size < WIDTH ? WIDTH / size : 1;
    const int32_t vectors = size < WIDTH ? 1 : size / WIDTH;
    if (share.lane < share.lanes) {
        Sums group = {0.0, 0.0};
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            const double about = origin[i], sum = sums[i], square = squares[i];
            group.add({sum + count * about, square + about * (2.0 * sum + count * about)});
            if ((i + 1) % size == 0 || i + 1 == WIDTH) {
                const int32_t index = i / size; // 0 where the group is larger than the vector
                shared.of_thread[static_cast<int32_t>(threadIdx.x) * groups + index] = group;
                group = {0.0, 0.0};
            }
        }
    }
    __syncthreads();
    const int32_t group = static_cast<int32_t>(threadIdx.x);
    if (group < params.groups) {
        Sums total = {0.0, 0.0};
        for (int32_t lane = 0; lane < share.lanes; ++lane) {
            for (int32_t vector = 0; vector < vectors; ++vector) {
                // Vector of the pixel, and the group's place in it.
                const int32_t slot = groups > 1 ? group / groups : group * vectors + vector;
                const int32_t thread = lane * share.slots + slot;
                total.add(shared.of_thread[thread * groups + group % groups]);
            }
        }
        store_partial(params, group, total);
    }
}

template <int WIDTH>
__device__ __forceinline__ void groupnorm_partial(const GroupnormSiluParams &params,
                                                  GroupnormShared &shared,
                                                  GroupnormGroupSums &group_sums) {
    const PixelShare<WIDTH> share(params, blockIdx.x);
    const int32_t channels = params.channels;
    // Sums of differences from the block's first pixel: small numbers, whatever the mean is.
    float origin[WIDTH], sums[WIDTH], squares[WIDTH];
    load(origin, params.x + share.offset(params, share.start));
#pragma unroll
    for (int i = 0; i < WIDTH; ++i) {
        sums[i] = 0.0f;
        squares[i] = 0.0f;
    }
    for (int32_t first = share.pixel; first < share.end; first += GROUPNORM_BATCH * share.lanes) {
        float values[GROUPNORM_BATCH][WIDTH];
#pragma unroll
        for (int b = 0; b < GROUPNORM_BATCH; ++b) {
            const int32_t pixel = first + b * share.lanes;
            if (pixel < share.end) {
                load(values[b], params.x + share.offset(params, pixel));
            }
        }
#pragma unroll
        for (int b = 0; b < GROUPNORM_BATCH; ++b) {
            if (first + b * share.lanes >= share.end) {
                break;
            }
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                const float difference = values[b][i] - origin[i];
                sums[i] += difference;
                squares[i] += difference * difference;
            }
        }
    }
    const int32_t size = channels / params.groups;
    if (WIDTH == 8 && (size % 8 == 0 || 8 % size == 0)) {
        // Pixels that this thread has added.
        const int32_t left = share.end - share.pixel;
        const double count = left > 0 ? (left + share.lanes - 1) / share.lanes : 0;
        add_groups<WIDTH>(params, share, group_sums, origin, sums, squares, count);
        return;
    }
    if (share.lane < share.lanes) {
        const int32_t first = share.lane * channels + share.channel;
#pragma unroll
        for (int i = 0; i < WIDTH; ++i) {
            shared.sums[first + i] = sums[i];
            shared.squares[first + i] = squares[i];
        }
    }
    __syncthreads();
    // From here in f64 and about 0, so that the sums of all blocks can be added.
    const double count = share.end - share.start;
    for (int32_t channel = static_cast<int32_t>(threadIdx.x); channel < channels;
         channel += GROUPNORM_THREADS) {
        double sum = 0.0, square = 0.0;
        for (int32_t lane = 0; lane < share.lanes; ++lane) {
            sum += shared.sums[lane * channels + channel];
            square += shared.squares[lane * channels + channel];
        }
        const double origin_of_channel =
            __bfloat162float(params.x[static_cast<int64_t>(share.start) * channels + channel]);
        shared.channel_sums[channel] = sum + count * origin_of_channel;
        shared.channel_squares[channel] =
            square + origin_of_channel * (2.0 * sum + count * origin_of_channel);
    }
    __syncthreads();
    const int32_t group = static_cast<int32_t>(threadIdx.x);
    if (group < params.groups) {
        double sum = 0.0, square = 0.0;
        for (int32_t channel = group * size; channel < (group + 1) * size; ++channel) {
            sum += shared.channel_sums[channel];
            square += shared.channel_squares[channel];
        }
        store_partial(params, group, {sum, square});
    }
}

template <int WIDTH, bool ROUND>
__device__ __forceinline__ void groupnorm_apply(const GroupnormSiluParams &params) {
    // From the end of the image on: what the sums read last is still in L2.
    const PixelShare<WIDTH> share(params, gridDim.x - 1 - blockIdx.x);
    float factors[WIDTH], offsets[WIDTH];
    load(factors, params.affine + share.channel);
    load(offsets, params.affine + params.channels + share.channel);
    for (int32_t first = share.pixel; first < share.end; first += GROUPNORM_BATCH * share.lanes) {
        float values[GROUPNORM_BATCH][WIDTH];
#pragma unroll
        for (int b = 0; b < GROUPNORM_BATCH; ++b) {
            const int32_t pixel = first + b * share.lanes;
            if (pixel < share.end) {
                load(values[b], params.x + share.offset(params, pixel));
            }
        }
#pragma unroll
        for (int b = 0; b < GROUPNORM_BATCH; ++b) {
            const int32_t pixel = first + b * share.lanes;
            if (pixel >= share.end) {
                break;
            }
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                values[b][i] = factors[i] * values[b][i] + offsets[i];
            }
            if constexpr (ROUND) {
                round_all(values[b]);
            }
            if (params.silu != 0) {
#pragma unroll
                for (int i = 0; i < WIDTH; ++i) {
                    const float value = values[b][i];
                    // The quick form is off by some 2^-21, far below bf16's 2^-9, and a 1024 x
                    // 1024 picture has 134 million values here.
                    values[b][i] = ROUND ? silu(value) : __fdividef(value, 1.0f + __expf(-value));
                }
            }
            store(params.out + share.offset(params, pixel), values[b]);
        }
    }
}

__device__ __forceinline__ bool groupnorm_vectors(const GroupnormSiluParams &params) {
    return multiples_of_8(params.channels) && aligned_16(params.out, params.x);
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(flux_rt::GROUPNORM_THREADS)
    groupnorm_silu_partial(const __grid_constant__ flux_rt::GroupnormSiluParams params) {
    __shared__ union {
        flux_rt::GroupnormShared channels;
        flux_rt::GroupnormGroupSums groups;
    } shared;
    if (flux_rt::groupnorm_vectors(params)) {
        flux_rt::groupnorm_partial<8>(params, shared.channels, shared.groups);
    } else {
        flux_rt::groupnorm_partial<1>(params, shared.channels, shared.groups);
    }
}

extern "C" __global__ void __launch_bounds__(flux_rt::GROUPNORM_THREADS)
    groupnorm_silu_combine(const __grid_constant__ flux_rt::GroupnormSiluParams params) {
    using namespace flux_rt;
    __shared__ double sums[GROUPNORM_THREADS / 32], squares[GROUPNORM_THREADS / 32];
    const int32_t group = static_cast<int32_t>(blockIdx.x);
    const int32_t size = params.channels / params.groups;
    const int32_t blocks = (params.pixels + params.pixels_per_block - 1) / params.pixels_per_block;
    double sum = 0.0, square = 0.0;
    for (int32_t block = static_cast<int32_t>(threadIdx.x); block < blocks;
         block += GROUPNORM_THREADS) {
        const int64_t at = static_cast<int64_t>(group) * blocks + block;
        const double2 part = reinterpret_cast<const double2 *>(params.partial)[at];
        sum += part.x;
        square += part.y;
    }
    sum = block_sum<GROUPNORM_THREADS>(sum, sums);
    square = block_sum<GROUPNORM_THREADS>(square, squares);
    const double count = static_cast<double>(params.pixels) * size;
    const double exact_mean = sum / count;
    // The difference of two f64 sums of 8-bit significands: never far below 0.
    const double variance = fmax(square / count - exact_mean * exact_mean, 0.0);
    float mean = static_cast<float>(exact_mean);
    float inverse = static_cast<float>(1.0 / sqrt(variance + params.eps));
    if (params.round_like_diffusers != 0) {
        mean = round_to_bf16(mean);
        inverse = round_to_bf16(inverse);
    }
    for (int32_t index = static_cast<int32_t>(threadIdx.x); index < size;
         index += GROUPNORM_THREADS) {
        const int32_t channel = group * size + index;
        const float factor = inverse * params.weight[channel];
        params.affine[channel] = factor;
        params.affine[params.channels + channel] = -factor * mean + params.bias[channel];
    }
}

extern "C" __global__ void __launch_bounds__(flux_rt::GROUPNORM_THREADS)
    groupnorm_silu_apply(const __grid_constant__ flux_rt::GroupnormSiluParams params) {
    using namespace flux_rt;
    const bool round = params.round_like_diffusers != 0;
    if (groupnorm_vectors(params)) {
        round ? groupnorm_apply<8, true>(params) : groupnorm_apply<8, false>(params);
    } else {
        round ? groupnorm_apply<1, true>(params) : groupnorm_apply<1, false>(params);
    }
}
