// From a tile's sums to the output: a consumer puts finished chunks of 64 rows into shared memory,
// from where a warp of the producer group stores them, also while the next tile is multiplied.
#pragma once

#include "mbarrier.cuh"
#include "multiply.cuh"
#include "tensor_map.cuh"
#include "tile.cuh"

#include <cstdint>
#include <type_traits>

namespace flux_rt {

// The four 8x8 matrices of a warp's 16 rows x 16 columns, from or to shared memory; lane l names
// the address of row l % 16 in the columns 8 (l / 16).
__device__ __forceinline__ void load_matrices(uint32_t (&words)[4], uint32_t address) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(words[0]), "=r"(words[1]), "=r"(words[2]), "=r"(words[3])
                 : "r"(address)
                 : "memory");
}
__device__ __forceinline__ void store_matrices(uint32_t address, const uint32_t (&words)[4]) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
                 "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
                 : "memory");
}
// The same with each matrix transposed: lane l names the address of the column l % 8 of the matrix
// l / 8.
__device__ __forceinline__ void store_transposed(uint32_t address, const uint32_t (&words)[4]) {
    asm volatile(
        "stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
        "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
        : "memory");
}

// Where a lane's part of a warp's rows lies in a chunk buffer.
template <class Tile> class ChunkAddress {
    // Rows of 128 bytes are swizzled by the copies too; eight rows of 96 bytes meet no bank more
    // than twice as they are.
    static constexpr bool SWIZZLED = Tile::CHUNK_ROW_BYTES == 128;
    static_assert(SWIZZLED || Tile::CHUNK_ROW_BYTES % 64 == 32, "few bank conflicts");
    uint32_t row, column;

  public:
    __device__ __forceinline__ ChunkAddress() {
        const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x % WARPGROUP / 32;
        row = (16 * warp + lane % 16) * Tile::CHUNK_ROW_BYTES;
        column = lane / 16 * 16;
        if (SWIZZLED) {
            column ^= lane % 8 * 16;
        }
    }

    // Columns GROUP_COLUMNS * `group` on.
    __device__ __forceinline__ uint32_t operator()(uint32_t buffer, int group) const {
        return buffer + row + (SWIZZLED ? column ^ (group * 32) : column + group * 32);
    }
};

// Where the 16 bytes of a lane's column lie in a chunk buffer that is filled with columns: 64 rows
// make 64 bytes, of which each warp has 16. The copies swizzle them, too, so that eight columns
// meet all banks.
class TransposedAddress {
    static constexpr uint32_t COLUMN_BYTES = 64, PARTS = 4;
    uint32_t offset;

  public:
    __device__ __forceinline__ TransposedAddress() {
        const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x % WARPGROUP / 32;
        offset = lane * COLUMN_BYTES + (warp ^ lane / 2 % PARTS) * 16;
    }

    __device__ __forceinline__ uint32_t operator()(uint32_t buffer, int group) const {
        return buffer + offset + group * (32 * COLUMN_BYTES);
    }
};

// Finishes one tile of a consumer: `epilogue.finish(words, sums, column, old)` turns a thread's
// sums of GROUP_COLUMNS columns into the words of a stmatrix. They are the columns `column` + 2 q
// and + 1 of the rows g and g + 8, then the same 8 columns further, and so on; for bf16 output,
// words are pairs of sums in this order. If there is a `residual`, `old` is what it is there: it
// lies in the next stages of `ring`, where the output takes its place. Else `old` is zeros, and the
// output goes to the chunk buffers.
//
// A TRANSPOSED epilogue, whose elements are bytes, fills chunks of 128 columns whose columns are
// stored as rows. It has a word for each 8 columns: column 2 q in the lower half, 2 q + 1 in the
// upper, and in both the rows g and g + 8, which become neighbours.
template <class Tile, class Epilogue>
__device__ __forceinline__ void
finish_tile(const HopperSums<Tile> &sums, const SharedLayout<Tile> &shared, int consumer,
            RingPosition<Tile::STAGES> &ring, RingPosition<Tile::BUFFERS> &parts, bool residual,
            Epilogue &&epilogue) {
    constexpr int OUTPUT_BYTES = std::remove_reference_t<Epilogue>::OUTPUT_BYTES;
    constexpr int CHUNK_COLUMNS = Tile::CHUNK_ROW_BYTES / OUTPUT_BYTES;
    constexpr int GROUP_COLUMNS = 32 / OUTPUT_BYTES; // of one stmatrix
    constexpr int CHUNKS_N = Tile::N / CHUNK_COLUMNS, CHUNKS = Tile::CHAINS * CHUNKS_N;
    static_assert(Tile::N % CHUNK_COLUMNS == 0 && CHUNK_COLUMNS % GROUP_COLUMNS == 0,
                  "chunks of whole stmatrix");
    constexpr bool TRANSPOSED = std::remove_reference_t<Epilogue>::TRANSPOSED;
    static_assert(!TRANSPOSED || (OUTPUT_BYTES == 1 && CHUNK_COLUMNS == 128),
                  "16 rows of a warp are 16 bytes, 64 rows of 128 columns a chunk");
    const std::conditional_t<TRANSPOSED, TransposedAddress, ChunkAddress<Tile>> address;
    const int reader = Tile::IN_TURN ? 0 : consumer;
    // `stored` keeps a part's place from being written too early, and `filled` from being told of
    // the next part before it is waited for. In a stage only the latter can be: with one buffer, it
    // is early enough to wait when the next part is complete.
    const bool waits_late = Tile::BUFFERS == 1 && residual;
#pragma unroll
    for (int chunk = 0; chunk < CHUNKS; ++chunk) {
        const int in_stage = chunk % Tile::RESIDUAL_CHUNKS;
        const bool starts = in_stage == 0 || !residual;
        const bool ends = in_stage == Tile::RESIDUAL_CHUNKS - 1 || chunk == CHUNKS - 1;
        if (starts && !waits_late) {
            barrier_wait(shared.stored(consumer, parts.slot), parts.parity ^ 1);
        }
        if (starts && residual) {
            barrier_wait(shared.full(ring.slot), ring.parity);
        }
        const uint32_t place = residual ? shared.residual(ring.slot, reader, in_stage)
                                        : shared.chunk(consumer, parts.slot);
#pragma unroll
        for (int group = 0; group < CHUNK_COLUMNS / GROUP_COLUMNS; ++group) {
            const int column = chunk % CHUNKS_N * CHUNK_COLUMNS + group * GROUP_COLUMNS;
            uint32_t old[4] = {0, 0, 0, 0}, words[4];
            if (residual) {
                load_matrices(old, address(place, group));
            }
            epilogue.finish(words, &sums[chunk / CHUNKS_N][column / 2], column, old);
            if constexpr (TRANSPOSED) {
                store_transposed(address(place, group), words);
            } else {
                store_matrices(address(place, group), words);
            }
        }
        if (ends || !residual) {
            if (waits_late) {
                barrier_wait(shared.stored(consumer, parts.slot), parts.parity ^ 1);
            }
            fence_before_bulk_copy();
            __syncwarp();
            if (threadIdx.x % 32 == 0) {
                barrier_arrive(shared.filled(consumer, parts.slot));
            }
            parts.advance();
            if (residual) {
                ring.advance();
            }
        }
    }
}

// Stores what a consumer finishes, of all tiles of this block; called by one thread.
template <class Tile, class Problem>
__device__ __forceinline__ void store_chunks(const SharedLayout<Tile> &shared, int consumer,
                                             const Problem &problem, TileSchedule<Tile> schedule,
                                             int slabs) {
    const bool residual = problem.has_residual();
    const int reader = Tile::IN_TURN ? 0 : consumer;
    const int part_chunks = residual ? Tile::RESIDUAL_CHUNKS : 1;
    const int tile_stages = slabs + (residual ? Tile::RESIDUAL_STAGES : 0);
    RingPosition<Tile::BUFFERS> parts;
    RingPosition<Tile::STAGES> ring;
    ring.advance_by(slabs + (Tile::IN_TURN ? consumer * tile_stages : 0));
    for (schedule = schedule.of_consumer(consumer); !schedule.done(); schedule.advance()) {
        const HopperPosition at = schedule.position();
        const int columns = problem.template chunk_columns<Tile>();
        const int chunks_n = Tile::N / columns, chunks = Tile::CHAINS * chunks_n;
#pragma unroll 1
        for (int first = 0; first < chunks; first += part_chunks) {
            barrier_wait(shared.filled(consumer, parts.slot), parts.parity);
#pragma unroll 1
            for (int i = 0; i < part_chunks && first + i < chunks; ++i) {
                const uint32_t place = residual ? shared.residual(ring.slot, reader, i)
                                                : shared.chunk(consumer, parts.slot);
                const int chunk = first + i;
                problem.store(place, at.segment, chunk_row<Tile>(at, reader, chunk / chunks_n),
                              at.column + chunk % chunks_n * columns);
            }
            commit_stores();
            wait_stores_read<0>();
            barrier_arrive(shared.stored(consumer, parts.slot));
            parts.advance();
            if (residual) {
                for (uint32_t block = 0; block < Tile::CLUSTER; ++block) {
                    barrier_arrive_at(shared.empty(ring.slot), block);
                }
                ring.advance();
            }
        }
        ring.advance_by(slabs + (Tile::IN_TURN ? tile_stages : 0));
    }
    wait_stores();
}

} // namespace flux_rt
