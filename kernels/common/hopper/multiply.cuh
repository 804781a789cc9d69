// The main loop of a Hopper matrix kernel: A and W of a tile come slab after slab, 128 bytes of K
// each, through a ring of shared stages that one thread fills by bulk copies and two warpgroups
// multiply from. The ring does not stop between tiles: while the consumers finish one, it fills
// with the next one's first slabs.
#pragma once

#include "cluster.cuh"
#include "mbarrier.cuh"
#include "tensor_map.cuh"
#include "tile.cuh"
#include "wgmma.cuh"
#include "wgmma_e4m3.cuh"

#include <cstdint>

namespace flux_rt {

// Fills stages with the residual of one tile.
template <class Tile, class Problem>
__device__ __forceinline__ void load_residual(const SharedLayout<Tile> &shared,
                                              const Problem &problem, const HopperPosition &at,
                                              RingPosition<Tile::STAGES> &ring) {
#pragma unroll 1
    for (int first = 0; first < Tile::CHUNKS; first += Tile::RESIDUAL_CHUNKS) {
        const int count = min(Tile::RESIDUAL_CHUNKS, Tile::CHUNKS - first);
        const uint32_t full = shared.full(ring.slot);
        barrier_wait(shared.empty(ring.slot), ring.parity ^ 1);
        barrier_arrive_expect(full, Tile::READERS * count * Tile::CHUNK_BYTES);
#pragma unroll 1
        for (int chunk = 0; chunk < count; ++chunk) {
#pragma unroll 1
            for (int reader = 0; reader < Tile::READERS; ++reader) {
                problem.load_residual(shared.residual(ring.slot, reader, chunk), full, at.segment,
                                      chunk_row<Tile>(at, reader, (first + chunk) / Tile::CHUNKS_N),
                                      at.column +
                                          (first + chunk) % Tile::CHUNKS_N * Tile::CHUNK_COLUMNS);
            }
        }
        ring.advance();
    }
}

// Fills the ring for all tiles of this block; called by one thread. `weight` are maps per segment
// with boxes of Tile::K columns x SHARED_N rows.
template <class Tile, class Problem>
__device__ __forceinline__ void load_inputs(const SharedLayout<Tile> &shared,
                                            const Problem &problem, const TensorMap *weights,
                                            TileSchedule<Tile> schedule, int slabs) {
    constexpr uint16_t ALL_BLOCKS = (1 << Tile::CLUSTER) - 1;
    const int rank = static_cast<int>(cluster_rank());
    const uint32_t part_offset = rank * Tile::SHARED_N * Tile::SLAB_BYTES;
    RingPosition<Tile::STAGES> ring;
    for (; !schedule.done(); schedule.advance()) {
        const HopperPosition at = schedule.position();
        const TensorMap &weight = weights[at.segment];
        const int weight_row = problem.weight_row(at.column) + rank * Tile::SHARED_N;
#pragma unroll 1
        for (int slab = 0; slab < slabs; ++slab) {
            // A stage is empty here when it is empty in every block that the load below writes to:
            // consumers report to all blocks of the cluster.
            barrier_wait(shared.empty(ring.slot), ring.parity ^ 1);
            const uint32_t full = shared.full(ring.slot);
            barrier_arrive_expect(full, Tile::STAGE_BYTES);
            problem.load_a(shared.a(ring.slot), full, at.segment, at.row, slab * Tile::K);
            load_box_multicast(shared.b(ring.slot) + part_offset, weight, full, weight_row,
                               problem.weight_column(slab * Tile::K), ALL_BLOCKS);
            ring.advance();
        }
        if (problem.has_residual()) {
            load_residual<Tile>(shared, problem, at, ring);
        }
    }
}

// Gives a stage back to the producers of all blocks; called by all threads of a consumer, whose
// products are a warpgroup's, so that one warp can speak for all.
template <class Tile>
__device__ __forceinline__ void release_stage(const SharedLayout<Tile> &shared, uint32_t stage) {
    const uint32_t thread = threadIdx.x % WARPGROUP;
    if (thread < Tile::CLUSTER) {
        barrier_arrive_at(shared.empty(stage), thread);
    }
}

// A consumer thread's sums: chain c covers rows 64 c on of its warpgroup's part.
template <class Tile> using HopperSums = float[Tile::CHAINS][Tile::N / 2];

// Multiplies one tile, whose slabs are the next in `ring`. While a slab's products run, the next
// slab's are queued behind them; then the older slab's stage is released. `queued` is called by
// every thread when no slab is left to wait for.
template <class Tile, class Queued>
__device__ __forceinline__ void multiply(HopperSums<Tile> &sums, const SharedLayout<Tile> &shared,
                                         int consumer, RingPosition<Tile::STAGES> &ring, int slabs,
                                         const Queued &queued) {
    const uint32_t a_offset = Tile::IN_TURN ? 0 : consumer * Tile::CONSUMER_M * Tile::SLAB_BYTES;
    uint32_t previous = 0;
#pragma unroll 1
    for (int slab = 0; slab < slabs; ++slab) {
        barrier_wait(shared.full(ring.slot), ring.parity);
        const uint64_t a = operand_descriptor(shared.a(ring.slot) + a_offset);
        const uint64_t b = operand_descriptor(shared.b(ring.slot));
        products_fence();
#pragma unroll
        for (int step = 0; step < Tile::SLAB_BYTES / 32; ++step) {
#pragma unroll
            for (int chain = 0; chain < Tile::CHAINS; ++chain) {
                Products<Tile::OPERAND, Tile::N>::multiply(
                    sums[chain], a + chain * NEXT_64_ROWS + step * NEXT_32_BYTES,
                    b + step * NEXT_32_BYTES, step > 0 || slab > 0);
            }
        }
        products_commit();
        products_wait<1>();
        if (slab > 0) {
            release_stage<Tile>(shared, previous);
        }
        previous = ring.slot;
        ring.advance();
    }
    queued();
    products_wait<0>();
    release_stage<Tile>(shared, previous);
#pragma unroll
    for (int chain = 0; chain < Tile::CHAINS; ++chain) {
        pin(sums[chain]);
    }
}

} // namespace flux_rt
