// The parts of a product that makes attention's inputs, and what becomes of a head of q or k.
#pragma once

#include "tile.cuh"

namespace flux_rt {

// The four parts of the product's columns, in the order of W's rows.
enum Part { Q, K, V, MLP };

// Which columns of which part a tile computes: a tile never holds columns of two parts, so heads
// start at its first column and every block does one kind of work.
struct PartColumns {
    int part, first, width; // first column of the tile, and all columns of the part
};

// q, k and v have `width` columns each.
template <class Tile>
__device__ __forceinline__ PartColumns part_columns(int width, int mlp_width, int tile_n) {
    const int part_tiles = tiles(width, Tile::N);
    if (tile_n < 3 * part_tiles) {
        return {tile_n / part_tiles, tile_n % part_tiles * Tile::N, width};
    }
    return {MLP, (tile_n - 3 * part_tiles) * Tile::N, mlp_width};
}

// The row of W that makes column `column` of q, k and v, which have `width` columns each; W has
// `rows` rows for each, of which a narrower layer takes the first.
__device__ __forceinline__ int qkv_weight_row(int column, int width, int rows) {
    return column + ((column >= width) + (column >= 2 * width)) * (rows - width);
}

// RMSNorm over the head, in f32; the head's columns lie in head_dim / 8 neighbouring lanes, all of
// which call.
__device__ __forceinline__ void normalize_head(float (&values)[8], const float (&weight)[8],
                                               int head_dim, float eps) {
    float sum = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        sum += values[i] * values[i];
    }
    for (int lanes = head_dim / 16; lanes > 0; lanes /= 2) {
        sum += __shfl_xor_sync(0xffffffffu, sum, lanes);
    }
    const float inverse = rsqrtf(sum / static_cast<float>(head_dim) + eps);
#pragma unroll
    for (int i = 0; i < 8; ++i) {
        values[i] = values[i] * inverse * weight[i];
    }
}

// Rotates the four pairs (2j, 2j + 1) by their angle, given as cos, sin.
__device__ __forceinline__ void rotate(float (&values)[8], const float (&angles)[8]) {
#pragma unroll
    for (int pair = 0; pair < 8; pair += 2) {
        const float even = values[pair], odd = values[pair + 1];
        const float cos = angles[pair], sin = angles[pair + 1];
        values[pair] = even * cos - odd * sin;
        values[pair + 1] = odd * cos + even * sin;
    }
}

} // namespace flux_rt
