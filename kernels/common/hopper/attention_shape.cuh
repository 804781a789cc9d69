// The shape of the Hopper attention kernel: sizes of its tiles, its shared memory, and which key
// blocks a block of threads works on.
//
// A block is one producer warpgroup, whose warps move data, and two consumer warpgroups with 64
// queries each. The blocks of a cluster have neighbouring queries of the same head, and share K and
// V: each loads a part and hands it to all. Blocks stay resident, and K and V of all their work
// pass through one ring of buffers.
#pragma once

#include "../shared_memory.cuh"

#include <cstdint>

namespace flux_rt {

// What is the same for all element types.
struct HopperAttentionBlock {
    static constexpr int HEAD_DIM = 128;
    static constexpr int CLUSTER = 2;
    static constexpr int CONSUMERS = 2, WARPGROUP = 128, THREADS = WARPGROUP * (1 + CONSUMERS);
    static constexpr int QUERIES = 64 * CONSUMERS, CLUSTER_QUERIES = CLUSTER * QUERIES;

    // The threads' registers before and after they are shared out again: 3 * 168 in all.
    static constexpr int PRODUCER_REGISTERS = 24;
    static constexpr int CONSUMER_REGISTERS = 240;

    // What a consumer leaves in global memory of a tile that another block finishes: 64 sums of
    // each thread, then its rows' references and sums.
    static constexpr int PARTIAL_VECTORS = 17;
};

// bf16, KEYS keys at a time; K and V alternate in STAGES buffers. Q passes through one of its own
// into registers, 32 of every thread, which spares shared memory a third of the first product's
// reads.
template <int KEYS_, int STAGES_> struct HopperAttention : HopperAttentionBlock {
    static constexpr int KEYS = KEYS_, STAGES = STAGES_;

    // A tile is two panels of 64 columns: rows of 128 bytes.
    static constexpr int PANELS = 2, PANEL_COLUMNS = 64;
    static constexpr uint32_t Q_PANEL_BYTES = QUERIES * 128, Q_BYTES = PANELS * Q_PANEL_BYTES;
    static constexpr uint32_t PANEL_BYTES = KEYS * 128, TILE_BYTES = PANELS * PANEL_BYTES;
    static constexpr uint32_t BUFFER_BYTES = TILE_BYTES;

    // Shared memory, from its first byte on.
    static constexpr uint32_t RING_OFFSET = Q_BYTES;
    static constexpr uint32_t BARRIER_OFFSET = RING_OFFSET + STAGES * BUFFER_BYTES;
    static constexpr uint32_t SHARED_BYTES = BARRIER_OFFSET + 16 * (STAGES + 1);

    static_assert(KEYS % 16 == 0 && KEYS <= 256, "what wgmma multiplies and one bulk copy loads");
    static_assert(BUFFER_BYTES % 1024 == 0, "buffers keep the swizzle's phase");
    static_assert(SHARED_BYTES <= 232448, "what a block can have");
};

// Addresses of a block's shared memory.
template <class Shape> struct AttentionMemory {
    const uint32_t base = shared_address(dynamic_shared());

    __device__ __forceinline__ uint32_t q() const { return base; }
    __device__ __forceinline__ uint32_t tile(int stage) const {
        return base + Shape::RING_OFFSET + stage * Shape::BUFFER_BYTES;
    }
    // Barriers. A buffer is full when its bytes are in, and empty when all consumers are done with
    // it: those of the whole cluster with a buffer of the ring.
    __device__ __forceinline__ uint32_t full(int stage) const { return barrier(stage); }
    __device__ __forceinline__ uint32_t empty(int stage) const {
        return barrier(Shape::STAGES + stage);
    }
    __device__ __forceinline__ uint32_t q_full() const { return barrier(2 * Shape::STAGES); }
    __device__ __forceinline__ uint32_t q_empty() const { return barrier(2 * Shape::STAGES + 1); }

  private:
    __device__ __forceinline__ uint32_t barrier(uint32_t index) const {
        return base + Shape::BARRIER_OFFSET + 8 * index;
    }
};

// Key blocks [first_block, end_block) of one tile: CLUSTER_QUERIES queries of one head.
struct AttentionPiece {
    int tile, first_block, end_block;
};

// The pieces of a cluster, in order: every `clusters`-th tile, and, where the last round of that
// would leave clusters idle, an equal share of the key blocks of the last one to two rounds' tiles
// instead. A share is at least a whole tile's worth, so at most two clusters share a tile: the one
// whose share begins in the tile starts its share with it and publishes what it got; the other,
// which has the tile's first key blocks, ends its share with them, long after, and finishes the
// tile. All of it is the same on every run. Needs as many tiles as clusters at least, and 2
// clusters^2 times the key blocks of a tile below 2^32.
template <class Shape> class AttentionSchedule {
    const int tile_blocks, shared_tiles; // key blocks of a tile, the first tile of those to share
    int tile, next, end;                 // `next` to `end` count the key blocks of the shared tiles

  public:
    __device__ __forceinline__ AttentionSchedule(int tiles, int tile_blocks)
        : tile_blocks(tile_blocks), shared_tiles(whole_rounds(tiles) * clusters()),
          tile(blockIdx.x / Shape::CLUSTER) {
        const int shared_blocks = (tiles - shared_tiles) * tile_blocks;
        next = share(place(), shared_blocks);
        end = share(place() + 1, shared_blocks);
    }

    // This cluster's place among the shares. It waits for the one at the next place, whose index
    // is lower, so that it has started.
    __device__ __forceinline__ static int place() {
        return clusters() - 1 - static_cast<int>(blockIdx.x / Shape::CLUSTER);
    }

    __device__ __forceinline__ bool done() const { return tile >= shared_tiles && next == end; }

    __device__ __forceinline__ AttentionPiece piece() const {
        if (tile < shared_tiles) {
            return {tile, 0, tile_blocks};
        }
        const int shared_tile = static_cast<uint32_t>(next) / static_cast<uint32_t>(tile_blocks);
        const int first = next - shared_tile * tile_blocks;
        return {shared_tiles + shared_tile, first, min(tile_blocks, first + end - next)};
    }

    // Past `piece`, which is this piece().
    __device__ __forceinline__ void advance(const AttentionPiece &piece) {
        if (tile < shared_tiles) {
            tile += clusters();
        } else {
            next += piece.end_block - piece.first_block;
        }
    }

  private:
    __device__ __forceinline__ static int clusters() { return gridDim.x / Shape::CLUSTER; }

    __device__ __forceinline__ static int whole_rounds(int tiles) {
        return tiles / clusters() - (tiles % clusters() == 0 ? 0 : 1);
    }

    __device__ __forceinline__ static int share(int place, int shared_blocks) {
        return static_cast<uint32_t>(shared_blocks * place) / static_cast<uint32_t>(clusters());
    }
};

} // namespace flux_rt
