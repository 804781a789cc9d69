// The producer's part of the Hopper attention kernels: Q, K and V into shared memory by bulk tensor
// copies, ahead of the consumers. Where they lie, a source knows.
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

// All blocks of a cluster, whose buffers receive everything. So a block waits for no block but its
// own: consumers report to all blocks that write their buffers.
constexpr uint16_t BOTH_BLOCKS = 3;

// The source of bf16: maps of the fused q, k, v buffer [S, 3 H 128] with boxes of 64 columns.
template <class Shape> struct FusedSource {
    const TensorMap *q, *kv;
    int seq, heads; // S, H

    template <class Params> __device__ __forceinline__ static void prefetch(const Params &params) {
        prefetch_map(params.q);
        prefetch_map(params.kv);
    }
    template <class Params> __device__ __forceinline__ static FusedSource of(const Params &params) {
        return {&params.q, &params.kv, params.seq, params.heads};
    }
    // Where V of a head begins whose K begins at `key_column`; q, k and v are `width` columns each.
    __device__ __forceinline__ int value_column(int key_column, int width) const {
        return key_column + width;
    }
    // Starts this block's part of loading a tile from (row, column) on into all of the cluster.
    __device__ __forceinline__ void load(uint32_t tile, uint32_t full, bool value, int row,
                                         int column) const {
        const int rank = blockIdx.x % Shape::CLUSTER;
        load_box_multicast(tile + rank * Shape::PANEL_BYTES, *kv, full, row, column + rank * 64,
                           BOTH_BLOCKS);
    }
};

// Fills the ring with K and V of all pieces, in the order of their use: the scores of a block come
// before the products with the last block's V. Called by one thread.
template <class Shape, class Source>
__device__ __forceinline__ void load_keys(const AttentionMemory<Shape> &shared, const Source &from,
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
            from.load(tile, full, value != 0, at_row, at_column);
            ring.advance();
        }
        v_column = from.value_column(column, width);
        v_row = row;
        row += more ? Shape::KEYS : 0;
    }
}

// Loads Q of all pieces; called by one thread.
template <class Shape, class Source>
__device__ __forceinline__ void load_queries(const AttentionMemory<Shape> &shared,
                                             const Source &from,
                                             AttentionSchedule<Shape> schedule) {
    const uint32_t tile = shared.q(), full = shared.q_full();
    for (uint32_t parity = 1; !schedule.done(); parity ^= 1) {
        const AttentionPiece piece = schedule.piece();
        schedule.advance(piece);
        const HeadTile at = head_tile<Shape>(from.seq, piece.tile);
        const int column = at.head * Shape::HEAD_DIM;
        barrier_wait(shared.q_empty(), parity);
        barrier_arrive_expect(full, Shape::Q_BYTES);
#pragma unroll
        for (int panel = 0; panel < Shape::PANELS; ++panel) {
            load_box(tile + panel * Shape::Q_PANEL_BYTES, *from.q, full, at.first_query,
                     column + panel * Shape::PANEL_COLUMNS);
        }
    }
}

} // namespace flux_rt
