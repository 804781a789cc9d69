// Where the Hopper attention kernel for e4m3 operands loads from.
#pragma once

#include "attention_fp8_shape.cuh"
#include "attention_load.cuh"
#include "mbarrier.cuh"
#include "tensor_map.cuh"

#include <cstdint>

namespace flux_rt {

// Maps of q and k [S, 2 H 128], and of V, transposed and padded to Sp keys, in four dimensions:
// [16 H, Sp / PANEL_KEYS, 8, PANEL_KEYS], groups of 8 channels in panels of keys.
template <class Shape> struct Fp8Source {
    const TensorMap *q, *k, *v;
    int seq, heads; // S, H

    template <class Params> __device__ __forceinline__ static void prefetch(const Params &params) {
        prefetch_map(params.q);
        prefetch_map(params.k);
        prefetch_map(params.v);
    }
    template <class Params> __device__ __forceinline__ static Fp8Source of(const Params &params) {
        return {&params.q, &params.k, &params.v, params.seq, params.heads};
    }
    // Here, the group of channels.
    __device__ __forceinline__ int value_column(int key_column, int width) const {
        return (key_column - width) / 8;
    }
    // Each block loads half of the keys, or half of the channels, for both.
    __device__ __forceinline__ void load(uint32_t tile, uint32_t full, bool value, int row,
                                         int column) const {
        const int rank = blockIdx.x % Shape::CLUSTER;
        tile += rank * (Shape::TILE_BYTES / Shape::CLUSTER);
        if (value) {
            constexpr int GROUPS = Shape::HEAD_DIM / 8 / Shape::CLUSTER;
            load_groups_multicast(tile, *v, full, column + rank * GROUPS, row / Shape::PANEL_KEYS,
                                  BOTH_BLOCKS);
        } else {
            load_box_multicast(tile, *k, full, row + rank * (Shape::KEYS / Shape::CLUSTER), column,
                               BOTH_BLOCKS);
        }
    }
};

// Below the channels of V in all buffers, writes the ones whose products are sums. Called by all
// threads before any barrier is waited for.
template <class Shape>
__device__ __forceinline__ void prepare_sums(const AttentionMemory<Shape> &shared) {
    constexpr uint32_t ONES = 0x38383838; // 1.0 in each byte
    constexpr int WORDS = Shape::GROUP_BYTES / 4;
    for (int i = threadIdx.x; i < Shape::STAGES * WORDS; i += Shape::THREADS) {
        const uint32_t at = shared.tile(i / WORDS) + Shape::TILE_BYTES + i % WORDS * 4;
        asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(ONES) : "memory");
    }
    fence_before_bulk_copy(); // and before wgmma, which reads in the same way
}

} // namespace flux_rt
