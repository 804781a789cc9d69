// The frame of a Hopper matrix kernel: who loads, multiplies, finishes and stores which tile. What
// is particular to one is its `Problem`, made of its parameters, which have the members a, weight,
// out (maps per segment), rows [2], columns, k and raster_rows:
//   load_a(shared, barrier, segment, row, column)         starts the copy of Tile::M rows of a slab
//   int weight_row(column), weight_column(k)              where in W a tile's, a slab's first lies
//   bool has_residual()
//   load_residual(shared, barrier, segment, row, column)  starts the copy of a chunk
//   store(shared, segment, row, column)                   starts the copy of a finished chunk
//   int chunk_columns<Tile>()                             columns of a chunk
//   ColumnPair column_pair(segment, column)               what finishing needs of two columns
//   finish(sums, schedule, consumer, slot, write)         calls write(adds_residual, epilogue) once
// and where the tile's format has scales:
//   float row_scale(segment, row)                             of Scales::ROWS
// and where its output is e4m3 in units of its own making:
//   float inverse_unit(column)                                by which a value is multiplied
#pragma once

#include "cluster.cuh"
#include "epilogue.cuh"
#include "grid.cuh"
#include "mbarrier.cuh"
#include "multiply.cuh"
#include "tensor_map.cuh"
#include "tile.cuh"

#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// What finishing needs of two neighbouring columns, as it lies in shared memory: the bias, and what
// the finished product is multiplied by.
struct alignas(16) ColumnPair {
    float bias[2], factor[2];
};

// Where in W operands lie, for problems that take all of it.
class WholeWeight {
  public:
    __device__ __forceinline__ int weight_row(int column) const { return column; }
    __device__ __forceinline__ int weight_column(int k) const { return k; }
};

// Copies between matrices and shared memory, for problems whose operands are matrices.
template <class Params> class MatrixCopies : public WholeWeight {
  protected:
    const Params &params;
    __device__ __forceinline__ explicit MatrixCopies(const Params &params) : params(params) {}

  public:
    __device__ __forceinline__ void load_a(uint32_t shared, uint32_t barrier, int segment, int row,
                                           int column) const {
        load_box(shared, params.a[segment], barrier, row, column);
    }
    __device__ __forceinline__ void store(uint32_t shared, int segment, int row, int column) const {
        store_box(params.out[segment], shared, row, column);
    }
    template <class Tile> __device__ __forceinline__ int chunk_columns() const {
        return Tile::CHUNK_COLUMNS;
    }
};

// Those of a linear layer, whose gates are a row of a table and whose weight may have a gap.
template <class Params> class LinearCopies : public MatrixCopies<Params> {
  protected:
    using MatrixCopies<Params>::params;
    const __nv_bfloat16 *gates; // of this step

    __device__ __forceinline__ explicit LinearCopies(const Params &params)
        : MatrixCopies<Params>(params), gates(nullptr) {
        if (params.gate_column[0] >= 0 || params.gate_column[1] >= 0) {
            gates = params.gate_table + static_cast<int64_t>(*params.step) * params.gate_stride;
        }
    }

  public:
    __device__ __forceinline__ int weight_column(int k) const {
        return k < params.gap_at ? k : k + params.gap;
    }

    __device__ __forceinline__ bool has_residual() const { return params.has_residual != 0; }
    __device__ __forceinline__ void load_residual(uint32_t shared, uint32_t barrier, int segment,
                                                  int row, int column) const {
        load_box(shared, params.residual[segment], barrier, row, column);
    }
};

template <class Tile> __device__ __forceinline__ ColumnPair *column_pairs(int slot) {
    uint8_t *const vectors = dynamic_shared() + Tile::VECTOR_OFFSET + slot * Tile::VECTOR_BYTES;
    return reinterpret_cast<ColumnPair *>(vectors);
}

// The scales of a tile's rows, behind its column pairs.
template <class Tile> __device__ __forceinline__ float *row_scales(int slot) {
    return reinterpret_cast<float *>(column_pairs<Tile>(slot) + Tile::N / 2);
}

// The units of a tile's columns, as what values are multiplied by.
template <class Tile> __device__ __forceinline__ float *inverse_units(int slot) {
    return row_scales<Tile>(slot) + Tile::ROW_SCALE_BYTES / 4;
}

// Loads the column pairs of every tile of this block, its rows' scales and its columns' units;
// called by one warp.
template <class Tile, class Problem>
__device__ __forceinline__ void load_vectors(const SharedLayout<Tile> &shared,
                                             const Problem &problem, TileSchedule<Tile> schedule) {
    const int lane = threadIdx.x % 32;
    RingPosition<Tile::TILES_AT_WORK> ring;
    for (; !schedule.done(); schedule.advance()) {
        ColumnPair *const pairs = column_pairs<Tile>(ring.slot);
        const HopperPosition at = schedule.position();
        barrier_wait(shared.vectors_empty(ring.slot), ring.parity ^ 1);
        for (int pair = lane; pair < Tile::N / 2; pair += 32) {
            pairs[pair] = problem.column_pair(at.segment, at.column + 2 * pair);
        }
        if constexpr (Tile::SCALES == Scales::ROWS) {
            for (int row = lane; row < Tile::M; row += 32) {
                row_scales<Tile>(ring.slot)[row] = problem.row_scale(at.segment, at.row + row);
            }
        }
        if constexpr (Tile::UNIT_BYTES > 0) {
            for (int column = lane; column < Tile::N; column += 32) {
                inverse_units<Tile>(ring.slot)[column] = problem.inverse_unit(at.column + column);
            }
        }
        // Every lane by itself: racecheck does not follow one that speaks for its warp.
        barrier_arrive(shared.vectors_full(ring.slot));
        ring.advance();
    }
}

template <class Tile, class Problem>
__device__ __forceinline__ void consume(const SharedLayout<Tile> &shared, const Problem &problem,
                                        const TileSchedule<Tile> &all, int consumer, int slabs) {
    const int slot = Tile::IN_TURN ? consumer : 0;
    const int residual_stages = problem.has_residual() ? Tile::RESIDUAL_STAGES : 0;
    RingPosition<Tile::STAGES> stages;
    RingPosition<Tile::BUFFERS> buffers;
    uint32_t parity = 0; // of what happens once a tile
    if (Tile::IN_TURN) {
        stages.advance_by(consumer * (slabs + residual_stages));
    }
    TileSchedule<Tile> schedule = all.of_consumer(consumer);
    for (; !schedule.done(); schedule.advance()) {
        HopperSums<Tile> sums;
        // Waiting for a stage tells laps apart by their parity alone, so a consumer must not wait
        // for a stage before the other has seen all those before it full.
        if (Tile::IN_TURN) {
            barrier_wait(shared.turn(consumer), parity ^ (consumer == 0 ? 1 : 0));
        }
        multiply<Tile>(sums, shared, consumer, stages, slabs, [&] {
            if (Tile::IN_TURN && threadIdx.x % WARPGROUP == 0) {
                RingPosition<Tile::STAGES> ahead = stages;
                for (int stage = 0; stage < residual_stages; ++stage) {
                    barrier_wait(shared.full(ahead.slot), ahead.parity);
                    ahead.advance();
                }
                barrier_arrive(shared.turn(1 - consumer));
            }
        });
        barrier_wait(shared.vectors_full(slot), parity);
        problem.template finish<Tile>(
            sums, schedule, consumer, slot, [&](bool adds_residual, auto &&epilogue) {
                finish_tile<Tile>(sums, shared, consumer, stages, buffers, adds_residual, epilogue);
            });
        barrier_arrive(shared.vectors_empty(slot));
        parity ^= 1;
        if (Tile::IN_TURN) {
            stages.advance_by(slabs + residual_stages); // the other consumer's
        }
    }
}

template <class Tile>
__device__ __forceinline__ void init_barriers(const SharedLayout<Tile> &shared) {
    for (int stage = 0; stage < Tile::STAGES; ++stage) {
        barrier_init(shared.full(stage), 1);
        barrier_init(shared.empty(stage), Tile::READERS * Tile::CLUSTER);
    }
    for (int consumer = 0; consumer < CONSUMERS; ++consumer) {
        for (int buffer = 0; buffer < Tile::BUFFERS; ++buffer) {
            barrier_init(shared.stored(consumer, buffer), 1);
            barrier_init(shared.filled(consumer, buffer), WARPGROUP / 32);
        }
    }
    for (int slot = 0; slot < Tile::TILES_AT_WORK; ++slot) {
        barrier_init(shared.vectors_full(slot), 32);
        barrier_init(shared.vectors_empty(slot), Tile::READERS * WARPGROUP);
    }
    for (int consumer = 0; consumer < CONSUMERS; ++consumer) {
        barrier_init(shared.turn(consumer), 1);
    }
    barrier_init_fence();
}

// The whole kernel, of blocks of Tile::THREADS threads in clusters of Tile::CLUSTER.
template <class Tile, class Problem, class Params>
__device__ __forceinline__ void run_matrix_kernel(const Params &params) {
    const SharedLayout<Tile> shared;
    const TileSchedule<Tile> schedule(params.rows, params.columns, params.raster_rows);
    const int slabs = (params.k + Tile::K - 1) / Tile::K;
    // Through a shuffle, the compiler knows that a whole warp takes the same branch.
    const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
    const int lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        init_barriers(shared);
    } else if (warp == 1 && lane < 2) {
        prefetch_map(params.a[lane]);
        prefetch_map(params.weight[lane]);
        prefetch_map(params.out[lane]);
    }
    cluster_sync();
    wait_for_earlier_grids();
    admit_next_grid(); // there is no room beside this block: its successor starts when it ends

    const Problem problem(params);
    if (warp < WARPGROUP / 32) {
        shrink_registers<Tile::PRODUCER_REGISTERS>();
        if (warp == 0 && lane == 0) {
            load_inputs<Tile>(shared, problem, params.weight, schedule, slabs);
        } else if ((warp == 1 || warp == 2) && lane == 0) {
            store_chunks<Tile>(shared, warp - 1, problem, schedule, slabs);
        } else if (warp == 3) {
            load_vectors<Tile>(shared, problem, schedule);
        }
    } else {
        grow_registers<Tile::CONSUMER_REGISTERS>();
        consume<Tile>(shared, problem, schedule, warp / 4 - 1, slabs);
    }
    __syncwarp();
    // A block stays until no other of its cluster signals its barriers or writes its stages.
    cluster_sync();
}

} // namespace flux_rt
