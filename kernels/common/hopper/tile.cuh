// The tile of a Hopper matrix kernel: its sizes, its shared memory, and which tiles a block
// computes.
//
// A block is one producer warpgroup, whose warps move data, and two consumer warpgroups, which
// multiply. Blocks stay resident and go through tiles; the blocks of a cluster compute tiles below
// each other and share the weight's rows.
#pragma once

#include "../shared_memory.cuh"

#include <cstdint>

namespace flux_rt {

constexpr int WARPGROUP = 128;
constexpr int CONSUMERS = 2;

// How the consumers divide the work. TOGETHER: each computes M / 2 rows of every tile, and the
// tensor cores wait while both finish it. IN_TURN: each computes every second tile; one finishes
// its tile while the other multiplies.
enum class Consumers { TOGETHER, IN_TURN };

// What A and W are made of.
enum class Operand { BF16, E4M3 };

// What A's values are scaled by. ROWS: a factor per row, which is left to the finished sums.
enum class Scales { NONE, ROWS };

template <Operand OPERAND_, Scales SCALES_, int OUTPUT_BYTES_> struct TileFormat {
    static constexpr Operand OPERAND = OPERAND_;
    static constexpr Scales SCALES = SCALES_;
    static constexpr int OUTPUT_BYTES = OUTPUT_BYTES_; // of an element
};
using Bf16Format = TileFormat<Operand::BF16, Scales::NONE, 2>;

// K columns of A and of W, rows of 128 bytes, pass through STAGES buffers at a time. The output
// leaves in chunks of 64 rows x CHUNK_COLUMNS, through BUFFERS buffers per consumer.
template <int M_, int N_, int STAGES_, int CHUNK_COLUMNS_, int BUFFERS_,
          Consumers WORK = Consumers::TOGETHER, class FORMAT = Bf16Format>
struct HopperTile {
    static constexpr Operand OPERAND = FORMAT::OPERAND;
    static constexpr Scales SCALES = FORMAT::SCALES;
    static constexpr int SLAB_BYTES = 128;
    static constexpr int M = M_, N = N_, STAGES = STAGES_, CLUSTER = 2;
    static constexpr int K = OPERAND == Operand::BF16 ? SLAB_BYTES / 2 : SLAB_BYTES;
    static constexpr int CHUNK_COLUMNS = CHUNK_COLUMNS_, BUFFERS = BUFFERS_;
    static constexpr int CHUNK_ROW_BYTES = CHUNK_COLUMNS * FORMAT::OUTPUT_BYTES;
    static constexpr int THREADS = WARPGROUP * (1 + CONSUMERS);

    // A consumer's rows, and how many products of 64 rows cover them.
    static constexpr bool IN_TURN = WORK == Consumers::IN_TURN;
    static constexpr int CONSUMER_M = IN_TURN ? M : M / CONSUMERS, CHAINS = CONSUMER_M / 64;
    static constexpr int CHUNKS_N = N / CHUNK_COLUMNS, CHUNKS = CHAINS * CHUNKS_N;

    // Registers of a thread, once shared out anew: the three warpgroups started with 168 each.
    static constexpr int PRODUCER_REGISTERS = 40;
    static constexpr int CONSUMER_REGISTERS = 232;

    // Each block loads its part of W's rows into all blocks of the cluster.
    static constexpr int SHARED_N = N / CLUSTER;

    static constexpr uint32_t A_BYTES = M * SLAB_BYTES, B_BYTES = N * SLAB_BYTES;
    static constexpr uint32_t STAGE_BYTES = A_BYTES + B_BYTES;
    static constexpr uint32_t CHUNK_BYTES = 64 * CHUNK_ROW_BYTES;
    // Scales of A's rows, an f32 each; and the columns' units where the output is e4m3.
    static constexpr uint32_t ROW_SCALE_BYTES = SCALES == Scales::ROWS ? M * 4 : 0;
    static constexpr uint32_t UNIT_BYTES = FORMAT::OUTPUT_BYTES == 1 ? N * 4 : 0;
    // The residual comes through the ring, after the tile's slabs: chunks of each consumer in turn.
    static constexpr int READERS = IN_TURN ? 1 : CONSUMERS; // consumers per tile
    static constexpr int RESIDUAL_CHUNKS = STAGE_BYTES / CHUNK_BYTES / READERS; // each, per stage
    static constexpr int RESIDUAL_STAGES = (CHUNKS + RESIDUAL_CHUNKS - 1) / RESIDUAL_CHUNKS;
    // Bias and gate of each tile at work, its rows' scales, its columns' units.
    static constexpr int TILES_AT_WORK = IN_TURN ? CONSUMERS : 1;
    static constexpr uint32_t VECTOR_BYTES = N / 2 * 16 + ROW_SCALE_BYTES + UNIT_BYTES;

    // Shared memory, from its first byte on.
    static constexpr uint32_t CHUNK_OFFSET = STAGES * STAGE_BYTES;
    static constexpr uint32_t VECTOR_OFFSET = CHUNK_OFFSET + CONSUMERS * BUFFERS * CHUNK_BYTES;
    static constexpr uint32_t BARRIER_OFFSET = VECTOR_OFFSET + TILES_AT_WORK * VECTOR_BYTES;
    static constexpr uint32_t BARRIERS =
        2 * (STAGES + CONSUMERS * BUFFERS + TILES_AT_WORK) + CONSUMERS;
    static constexpr uint32_t SHARED_BYTES = BARRIER_OFFSET + 8 * BARRIERS;

    static_assert(CONSUMER_M % 64 == 0 && N % 8 == 0 && N <= 256, "what wgmma multiplies");
    static_assert(M <= 256, "what one bulk copy loads");
    static_assert(N % CHUNK_COLUMNS == 0, "whole chunks");
    static_assert(N % CLUSTER == 0 && SHARED_N % 8 == 0, "the swizzle repeats every 8 rows");
    static_assert(CHUNK_BYTES % 1024 == 0, "chunk buffers keep the swizzle's phase");
    static_assert(SHARED_BYTES <= 232448, "what a block can have");
};

// Addresses of a block's shared memory.
template <class Tile> struct SharedLayout {
    const uint32_t base = shared_address(dynamic_shared());

    __device__ __forceinline__ uint32_t a(int stage) const {
        return base + stage * Tile::STAGE_BYTES;
    }
    __device__ __forceinline__ uint32_t b(int stage) const { return a(stage) + Tile::A_BYTES; }
    __device__ __forceinline__ uint32_t residual(int stage, int reader, int chunk) const {
        return a(stage) + (reader * Tile::RESIDUAL_CHUNKS + chunk) * Tile::CHUNK_BYTES;
    }
    __device__ __forceinline__ uint32_t chunk(int consumer, int buffer) const {
        return base + Tile::CHUNK_OFFSET + (consumer * Tile::BUFFERS + buffer) * Tile::CHUNK_BYTES;
    }

    // Barriers. A stage is full when its bytes are in, and empty when the consumers of all blocks
    // of the cluster are done with it.
    __device__ __forceinline__ uint32_t full(int stage) const { return barrier(stage); }
    __device__ __forceinline__ uint32_t empty(int stage) const {
        return barrier(Tile::STAGES + stage);
    }
    // The output leaves in parts, chunk buffers or what a stage holds of a residual: a part is
    // filled when the output is in it, and stored when the copy to global memory has read it.
    __device__ __forceinline__ uint32_t stored(int consumer, int buffer) const {
        return barrier(2 * Tile::STAGES + consumer * Tile::BUFFERS + buffer);
    }
    __device__ __forceinline__ uint32_t filled(int consumer, int buffer) const {
        return barrier(2 * Tile::STAGES + (CONSUMERS + consumer) * Tile::BUFFERS + buffer);
    }
    // A tile's bias and gate are loaded, or read by all.
    __device__ __forceinline__ uint32_t vectors_full(int slot) const {
        return barrier(2 * (Tile::STAGES + CONSUMERS * Tile::BUFFERS) + slot);
    }
    __device__ __forceinline__ uint32_t vectors_empty(int slot) const {
        return vectors_full(Tile::TILES_AT_WORK + slot);
    }
    // It is a consumer's turn to multiply.
    __device__ __forceinline__ uint32_t turn(int consumer) const {
        return barrier(Tile::BARRIERS - CONSUMERS + consumer);
    }

  private:
    __device__ __forceinline__ uint32_t barrier(uint32_t index) const {
        return base + Tile::BARRIER_OFFSET + 8 * index;
    }
};

// Where a tile lies.
struct HopperPosition {
    int segment; // 0 or 1
    int row;     // first row, counted in its segment
    int column;  // first column
};

// First row of a chunk of a consumer's product; `reader` is its index among the consumers of the
// tile.
template <class Tile>
__device__ __forceinline__ int chunk_row(const HopperPosition &at, int reader, int chain) {
    return at.row + reader * Tile::CONSUMER_M + chain * 64;
}

// The tiles of a block, in the order in which it computes them: every `clusters`-th of the list of
// all cluster tiles, which is the same on every run. In that list `raster_rows` cluster tiles below
// each other go through all columns before the next rows start, so that concurrent blocks share
// rows of both operands in L2. Tiles do not cross a segment's rows.
template <class Tile> class TileSchedule {
    int first_segment, tiles_m, tiles_n, raster_rows;
    int index, step, count;

    static constexpr int CLUSTER_M = Tile::M * Tile::CLUSTER;

    __device__ static __forceinline__ int tiles(int size, int tile) {
        return (size + tile - 1) / tile;
    }

  public:
    __device__ __forceinline__ TileSchedule(const int (&rows)[2], int columns, int raster_rows)
        : first_segment(tiles(rows[0], CLUSTER_M)),
          tiles_m(first_segment + tiles(rows[1], CLUSTER_M)), tiles_n(tiles(columns, Tile::N)),
          raster_rows(raster_rows), index(blockIdx.x / Tile::CLUSTER),
          step(gridDim.x / Tile::CLUSTER), count(tiles_m * tiles_n) {}

    __device__ __forceinline__ bool done() const { return index >= count; }
    __device__ __forceinline__ int left() const {
        return done() ? 0 : (count - index + step - 1) / step;
    }
    __device__ __forceinline__ void advance() { index += step; }

    // The tiles that a consumer works on.
    __device__ __forceinline__ TileSchedule of_consumer(int consumer) const {
        TileSchedule part = *this;
        if (Tile::IN_TURN) {
            part.index += consumer * step;
            part.step *= CONSUMERS;
        }
        return part;
    }

    // Of this block's tile.
    __device__ __forceinline__ HopperPosition position() const {
        const int group_tiles = raster_rows * tiles_n;
        const int group_row = index / group_tiles * raster_rows;
        const int group_rows = min(raster_rows, tiles_m - group_row);
        const int in_group = index % group_tiles;
        const int tile_m = group_row + in_group % group_rows;

        HopperPosition at;
        at.segment = tile_m < first_segment ? 0 : 1;
        const int in_segment = at.segment == 0 ? tile_m : tile_m - first_segment;
        at.row = in_segment * CLUSTER_M + static_cast<int>(blockIdx.x % Tile::CLUSTER) * Tile::M;
        at.column = in_group / group_rows * Tile::N;
        return at;
    }
};

} // namespace flux_rt
