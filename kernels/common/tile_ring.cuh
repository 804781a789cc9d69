// The tiles that an attention walks over, through shared memory.
#pragma once

#include "cp_async.cuh"

#include <cstdint>

namespace flux_rt {

// Tiles of K and V that pass through STAGES shared buffers; `load` fills the next one. One barrier
// a tile: after it all threads have the oldest tile, and are done with the one before, whose buffer
// the next load takes.
template <int STAGES, int TILE_BYTES, class Load> class TileRing {
    uint8_t *const ring;
    const Load load;
    int read = 0, write = 0;

    __device__ __forceinline__ void load_next() {
        load(ring + write * TILE_BYTES);
        cp_async_commit(); // also when nothing is left to load: the count of groups goes on
        write = write + 1 == STAGES ? 0 : write + 1;
    }

  public:
    // The first group takes in the copies that the caller started before.
    __device__ __forceinline__ TileRing(uint8_t *ring, const Load &load) : ring(ring), load(load) {
#pragma unroll
        for (int i = 0; i < STAGES - 1; ++i) {
            load_next();
        }
    }

    __device__ __forceinline__ const uint8_t *take() {
        cp_async_wait<STAGES - 2>();
        __syncthreads();
        load_next();
        const uint8_t *const tile = ring + read * TILE_BYTES;
        read = read + 1 == STAGES ? 0 : read + 1;
        return tile;
    }
};

} // namespace flux_rt
