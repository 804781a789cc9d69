// The producer's part of the Hopper attention kernel: Q, K and V from the fused buffer into shared
// memory by bulk tensor copies, ahead of the consumers.
#pragma once

#include "attention_shape.cuh"
#include "mbarrier.cuh"
#include "tensor_map.cuh"

#include <cstdint>

namespace flux_rt {

// Where this block's part of a tile lies.
struct HeadTile {
    int head, first_query;
};

template <class Shape> __device__ __forceinline__ HeadTile head_tile(int seq, int tile) {
    const uint32_t tiles = (seq + Shape::CLUSTER_QUERIES - 1) / Shape::CLUSTER_QUERIES;
    const uint32_t head = static_cast<uint32_t>(tile) / tiles;
    const uint32_t query = (tile - head * tiles) * Shape::CLUSTER_QUERIES +
                           blockIdx.x % Shape::CLUSTER * Shape::QUERIES;
    return {static_cast<int>(head), static_cast<int>(query)};
}

// What is loaded from: maps of the fused q, k, v buffer [S, 3 H 128] with boxes of 64 columns.
struct AttentionSource {
    const TensorMap *q, *kv;
    int seq, heads; // S, H
};

// Fills the ring with K and V of all pieces, in the order of their use: the scores of a block come
// before the products with the last block's V. Called by one thread.
template <class Shape>
__device__ __forceinline__ void load_keys(const AttentionMemory<Shape> &shared,
                                          const AttentionSource &from,
                                          AttentionSchedule<Shape> schedule) {
    const int width = from.heads * Shape::HEAD_DIM; // of q, k or v
    RingPosition<Shape::STAGES> ring;
    int column = 0, row = 0, end = 0; // of the next K, and of its piece's last
    int v_column = -1, v_row = 0;     // of the next V, if any
    bool more = true;
    while (more) {
        if (row == end && !schedule.done()) {
            const AttentionPiece piece = schedule.piece();
            schedule.advance(piece);
            column = width + head_tile<Shape>(from.seq, piece.tile).head * Shape::HEAD_DIM;
            row = piece.first_block * Shape::KEYS;
            end = piece.end_block * Shape::KEYS;
        }
        more = row < end;
#pragma unroll 1
        for (int value = more ? 0 : 1; value <= (v_column < 0 ? 0 : 1); ++value) {
            const int at_column = value == 0 ? column : v_column;
            const int at_row = value == 0 ? row : v_row;
            barrier_wait(shared.empty(ring.slot), ring.parity ^ 1);
            const uint32_t tile = shared.tile(ring.slot), full = shared.full(ring.slot);
            barrier_arrive_expect(full, Shape::TILE_BYTES);
            // The buffer of every block receives both panels, so it waits for no block but its
            // own: consumers report to all blocks that write their buffers.
            constexpr uint16_t BOTH = 3;
            const int rank = blockIdx.x % Shape::CLUSTER;
            load_box_multicast(tile + rank * Shape::PANEL_BYTES, *from.kv, full, at_row,
                               at_column + rank * 64, BOTH);
            ring.advance();
        }
        v_column = column + width;
        v_row = row;
        row += more ? Shape::KEYS : 0;
    }
}

// Loads Q of all pieces; called by one thread.
template <class Shape>
__device__ __forceinline__ void load_queries(const AttentionMemory<Shape> &shared,
                                             const AttentionSource &from,
                                             AttentionSchedule<Shape> schedule) {
    const uint32_t tile = shared.q(), full = shared.q_full();
    for (uint32_t parity = 1; !schedule.done(); parity ^= 1) {
        const AttentionPiece piece = schedule.piece();
        schedule.advance(piece);
        const HeadTile at = head_tile<Shape>(from.seq, piece.tile);
        const int column = at.head * Shape::HEAD_DIM;
        barrier_wait(shared.q_empty(), parity);
        barrier_arrive_expect(full, Shape::Q_BYTES);
        load_box(tile, *from.q, full, at.first_query, column);
        load_box(tile + Shape::Q_PANEL_BYTES, *from.q, full, at.first_query, column + 64);
    }
}

} // namespace flux_rt
