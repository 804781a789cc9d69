// Finishes q and k of an attention: RMSNorm of each head of a row, then its rotation by position;
// and v for an attention over e4m3, which wants it transposed.
//
// `Source` says what the sums stand for and has the weights of the norm:
//   AHEAD                                  groups of 16 columns that are loaded before their use
//   float value(sum, pair, i, lower)       of the column i of `pair`; lower: of the row g + 8
//   load_norm(group)                       starts the load of a group's weights
//   float2 norm(pair, group, right)        of `pair`, in the group's left or right eight columns
#pragma once

#include "../bf16.cuh"
#include "../e4m3.cuh"
#include "matrix_kernel.cuh"
#include "quantize.cuh"

#include <cstdint>

namespace flux_rt {

constexpr int HEAD = 128;

// Turns the sums into values first, in place, once for the norm and for what is stored. A thread
// holds a quarter of the columns of the heads of the rows g and g + 8.
template <class Tile, class Source> class RotatedEpilogue {
    static constexpr int HEADS = Tile::N / HEAD;
    // Groups of 16 columns whose angles are on their way while earlier ones are finished.
    static constexpr int AHEAD = Source::AHEAD, GROUPS = Tile::N / 16;
    static_assert(Tile::CHAINS == 1, "one product of 64 rows a consumer");

    Source source;
    const ColumnPair *pairs;    // of this lane's first column
    const float2 *rope[2];      // of both rows, at this lane's first pair
    float inverse[HEADS][2];    // 1 / root mean square
    float2 angles[AHEAD][2][2]; // [group][right][lower]

    // The angles depend on the column within the head alone.
    __device__ __forceinline__ void load_angles(int group) {
#pragma unroll
        for (int right = 0; right < 2; ++right) {
#pragma unroll
            for (int lower = 0; lower < 2; ++lower) {
                angles[group % AHEAD][right][lower] =
                    rope[lower][group % (HEAD / 16) * 8 + 4 * right];
            }
        }
    }

    __device__ __forceinline__ void find_values_and_norm(float (&sums)[Tile::N / 2], float eps,
                                                         float factor) {
#pragma unroll
        for (int head = 0; head < HEADS; ++head) {
            float squares[2] = {0.0f, 0.0f};
#pragma unroll
            for (int part = 0; part < HEAD / 8; ++part) {
                const int eighth = head * (HEAD / 8) + part;
                const ColumnPair pair = pairs[4 * eighth];
#pragma unroll
                for (int lower = 0; lower < 2; ++lower) {
                    float &x = sums[4 * eighth + 2 * lower];
                    float &y = sums[4 * eighth + 2 * lower + 1];
                    x = source.value(x, pair, 0, lower);
                    y = source.value(y, pair, 1, lower);
                    squares[lower] += x * x + y * y;
                }
            }
#pragma unroll
            for (int lower = 0; lower < 2; ++lower) {
                squares[lower] += __shfl_xor_sync(~0u, squares[lower], 1);
                squares[lower] += __shfl_xor_sync(~0u, squares[lower], 2);
                inverse[head][lower] =
                    rsqrtf(squares[lower] / static_cast<float>(HEAD) + eps) * factor;
            }
        }
    }

  public:
    static constexpr int OUTPUT_BYTES = 2;
    static constexpr bool TRANSPOSED = false;

    // `row` is the first of the consumer's rows in the joint sequence of `seq`; everything comes
    // multiplied by `factor`.
    __device__ __forceinline__ RotatedEpilogue(const Source &source, HopperSums<Tile> &sums,
                                               int slot, float eps, const float2 *table, int row,
                                               int seq, float factor = 1.0f)
        : source(source), pairs(column_pairs<Tile>(slot) + threadIdx.x % 4) {
        const int lane = threadIdx.x % 32, warp = threadIdx.x % WARPGROUP / 32;
#pragma unroll
        for (int lower = 0; lower < 2; ++lower) {
            // A row behind the end is never stored: any angles do.
            const int of_lane = min(row + 16 * warp + lane / 4 + 8 * lower, seq - 1);
            rope[lower] = table + static_cast<int64_t>(of_lane) * (HEAD / 2) + lane % 4;
        }
#pragma unroll
        for (int group = 0; group < AHEAD; ++group) {
            load_angles(group);
            this->source.load_norm(group);
        }
        find_values_and_norm(sums[0], eps, factor);
    }

    // The finished values of eight sums, in their order: 16 columns from `column` on.
    __device__ __forceinline__ void rotate(float *values, const float *eight, int column) {
        const int group = column / 16, head = column / HEAD;
#pragma unroll
        for (int right = 0; right < 2; ++right) {
            const float2 norm = source.norm(pairs[column / 2 + 4 * right], group, right);
#pragma unroll
            for (int lower = 0; lower < 2; ++lower) {
                const int word = 2 * right + lower;
                const float2 angle = angles[group % AHEAD][right][lower];
                const float scale = inverse[head][lower];
                const float even = eight[2 * word] * scale * norm.x;
                const float odd = eight[2 * word + 1] * scale * norm.y;
                values[2 * word] = even * angle.x - odd * angle.y;
                values[2 * word + 1] = odd * angle.x + even * angle.y;
            }
        }
        if (group + AHEAD < GROUPS) {
            load_angles(group + AHEAD);
            source.load_norm(group + AHEAD);
        }
    }

    __device__ __forceinline__ void finish(uint32_t (&words)[4], const float *eight, int column,
                                           const uint32_t (&)[4]) {
        float values[8];
        rotate(values, eight, column);
#pragma unroll
        for (int word = 0; word < 4; ++word) {
            words[word] = pack_bf16(values[2 * word], values[2 * word + 1]);
        }
    }
};

// The same to e4m3.
template <class Tile, class Source> class RotatedE4m3Epilogue {
    RotatedEpilogue<Tile, Source> rotated;
    E4m3Epilogue packed;

  public:
    static constexpr int OUTPUT_BYTES = 1;
    static constexpr bool TRANSPOSED = false;

    __device__
        __forceinline__ explicit RotatedE4m3Epilogue(const RotatedEpilogue<Tile, Source> &rotated)
        : rotated(rotated) {}

    __device__ __forceinline__ void finish(uint32_t (&words)[4], const float *sixteen, int column,
                                           const uint32_t (&old)[4]) {
        float values[16];
        rotated.rotate(values, sixteen, column);
        rotated.rotate(values + 8, sixteen + 8, column + 16);
        packed.finish(words, values, column, old);
    }
};

// To e4m3, channels with their keys side by side, of sums whose rows, the keys, are scaled. That
// the keys g and g + 8 become neighbours is the order that attention's second product wants.
template <class Tile> class TransposedE4m3Epilogue {
    static_assert(Tile::CHAINS == 1, "one product of 64 rows a consumer");

    const ColumnPair *pairs; // of this lane's first column
    uint32_t kept;           // the bytes of a word whose rows are not behind the end

  public:
    static constexpr int OUTPUT_BYTES = 1;
    static constexpr bool TRANSPOSED = true;

    // Of the consumer's rows, those from `rows_left` on become zeros: attention multiplies what
    // pads the keys by probabilities of 0, and that must not be NaN.
    __device__ __forceinline__ TransposedE4m3Epilogue(int slot, int rows_left)
        : pairs(column_pairs<Tile>(slot) + threadIdx.x % 4) {
        const int lane = threadIdx.x % 32, warp = threadIdx.x % WARPGROUP / 32;
        const int row = 16 * warp + lane / 4;
        kept = (row < rows_left ? 0x00ff00ff : 0) | (row + 8 < rows_left ? 0xff00ff00 : 0);
    }

    __device__ __forceinline__ void finish(uint32_t (&words)[4], const float *sixteen, int column,
                                           const uint32_t (&)[4]) const {
#pragma unroll
        for (int word = 0; word < 4; ++word) {
            const ColumnPair pair = pairs[column / 2 + 4 * word];
            float values[4]; // [lower][column of the pair]
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                values[i] = fmaf(sixteen[4 * word + i], pair.factor[i % 2], pair.bias[i % 2]);
            }
            words[word] = kept & pack_e4m3(values[0], values[2], values[1], values[3]);
        }
    }
};

} // namespace flux_rt
