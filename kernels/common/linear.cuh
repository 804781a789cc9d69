// A block of a matrix kernel whose weight's rows are its output's columns: which tile it computes,
// the product, and an epilogue over the rows of the result.
#pragma once

#include "epilogue.cuh"
#include "multiply.cuh"
#include "tile.cuh"

#include <cstdint>

namespace flux_rt {

// `Epilogue(params, position, first column of this thread)`, as for_each_row takes it.
template <class Tile, class Epilogue, class Params>
__device__ __forceinline__ void linear_block(const Params &params) {
    const TilePosition at = tile_position<Tile>(blockIdx.x, {params.rows, params.split},
                                                tiles(params.columns, Tile::N), params.raster_rows);
    const int first_column = at.tile_n * Tile::N;

    MatrixLoader<Tile, Tile::M> a(params.a + static_cast<int64_t>(at.row) * params.a_stride,
                                  params.a_stride, at.row_end - at.row, params.k);
    MatrixLoader<Tile, Tile::N> b(
        params.weight[at.segment] + static_cast<int64_t>(first_column) * params.weight_stride,
        params.weight_stride, params.columns - first_column, params.k, {params.gap_at, params.gap});
    Sums<Tile> sums;
    multiply<Tile>(sums, a, b, tiles(params.k, Tile::K));

    const int column = first_column + epilogue_column<Tile>();
    for_each_row<Tile>(sums, Epilogue(params, at, column));
}

} // namespace flux_rt
