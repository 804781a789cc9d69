// What a block of the Hopper attention kernels does, whatever the element type: prepares barriers,
// shares out registers, and lets warps move data or consume it.
#pragma once

#include "attention_load.cuh"
#include "attention_shape.cuh"
#include "cluster.cuh"
#include "grid.cuh"
#include "mbarrier.cuh"

#include <cstdint>

namespace flux_rt {

template <class Shape>
__device__ __forceinline__ void init_barriers(const AttentionMemory<Shape> &shared) {
    for (int stage = 0; stage < Shape::STAGES; ++stage) {
        barrier_init(shared.full(stage), 1);
        barrier_init(shared.empty(stage), Shape::CONSUMERS * Shape::CLUSTER);
    }
    barrier_init(shared.q_full(), 1);
    barrier_init(shared.q_empty(), Shape::CONSUMERS * 4); // each warp has read its own rows
    barrier_init_fence();
}

// Source::of(params) is what the producer loads from; consume(shared, schedule, key blocks of a
// tile, index of the consumer) is the rest.
template <class Shape, class Source, class Params, class Consume>
__device__ __forceinline__ void attention_block(const Params &params, const Consume &consume) {
    const AttentionMemory<Shape> shared;
    const int tiles =
        (params.seq + Shape::CLUSTER_QUERIES - 1) / Shape::CLUSTER_QUERIES * params.heads;
    const int tile_blocks = (params.seq + Shape::KEYS - 1) / Shape::KEYS;
    // Through a shuffle, the compiler knows that a whole warp takes the same branch.
    const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
    const int lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        Source::prefetch(params);
        init_barriers(shared);
    }
    cluster_sync();
    wait_for_earlier_grids();
    admit_next_grid(); // there is no room beside this block: its successor starts when it ends

    if (warp < 4) {
        shrink_registers<Shape::PRODUCER_REGISTERS>();
        const Source from = Source::of(params);
        if (warp == 0 && lane == 0) {
            load_keys<Shape>(shared, from, AttentionSchedule<Shape>(tiles, tile_blocks));
        } else if (warp == 1 && lane == 0) {
            load_queries<Shape>(shared, from, AttentionSchedule<Shape>(tiles, tile_blocks));
        }
    } else {
        grow_registers<Shape::CONSUMER_REGISTERS>();
        consume(shared, AttentionSchedule<Shape>(tiles, tile_blocks), tile_blocks, warp / 4 - 1);
    }
    __syncwarp();
    // A block stays until no other of its cluster signals its barriers or writes its buffers.
    cluster_sync();
}

} // namespace flux_rt
