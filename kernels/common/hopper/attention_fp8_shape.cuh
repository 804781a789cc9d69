// The shape of the Hopper attention kernel for e4m3 operands; what it shares with the one for bf16
// is in attention_shape.cuh.
#pragma once

#include "attention_shape.cuh"

#include <cstdint>

namespace flux_rt {

// KEYS keys at a time; K and V alternate in STAGES buffers. A row of Q or K is one head's 128
// bytes. V comes transposed: 128 channels of KEYS bytes, cut into panels of PANEL_KEYS keys, the
// widest that a swizzle has. Groups of 8 channels follow each other, and in a group its panels, so
// that the distance of groups is the same in all panels.
//
// Below V's channels lie 8 more, of ones, which bulk copies never overwrite: products with them are
// the sums of the rows of P, as it was rounded. Of a row dominated by few keys, the rounding errors
// of P then cancel in the quotient, which they do not with sums taken before rounding; and 64
// additions of each thread and block are gone, for a sixteenth of the second product.
template <int KEYS_, int STAGES_> struct HopperAttentionFp8 : HopperAttentionBlock {
    static constexpr int KEYS = KEYS_, STAGES = STAGES_;
    static constexpr int PANEL_KEYS = KEYS % 128 == 0 ? 128 : KEYS % 64 == 0 ? 64 : 32;
    static constexpr int KEY_PANELS = KEYS / PANEL_KEYS;
    static constexpr int SUM_COLUMNS = 8, OUT_COLUMNS = HEAD_DIM + SUM_COLUMNS;

    // A row's largest probability is 2^(SHIFT - 1) to 2^SHIFT when its reference is set. With 7,
    // and normal scores of a deviation of 2 to 3, a warp would raise references in 7 to 11 of 36
    // blocks, as simulated, while the others wait; with 4, in 2 to 4.
    static constexpr int SHIFT = 4;

    // Blocks of keys whose products the tensor cores add up by themselves.
    static constexpr int PROMOTED_BLOCKS = 8;

    // With two kinds of tiles to load, 24 registers are not enough for the producer.
    static constexpr int PRODUCER_REGISTERS = 40;
    static constexpr int CONSUMER_REGISTERS = 232;

    // Q is one panel of 128 columns: rows of 128 bytes. So is K.
    static constexpr int PANELS = 1, PANEL_COLUMNS = 128;
    static constexpr uint32_t Q_PANEL_BYTES = QUERIES * 128, Q_BYTES = Q_PANEL_BYTES;
    static constexpr uint32_t PANEL_BYTES = KEYS * 128, TILE_BYTES = PANEL_BYTES;
    static constexpr uint32_t GROUP_BYTES = KEYS * 8; // of 8 channels of V
    static constexpr uint32_t BUFFER_BYTES = (TILE_BYTES + GROUP_BYTES + 1023) / 1024 * 1024;

    // Shared memory, from its first byte on.
    static constexpr uint32_t RING_OFFSET = Q_BYTES;
    static constexpr uint32_t SUM_OFFSET = RING_OFFSET + STAGES * BUFFER_BYTES;
    static constexpr int SUM_VECTORS = OUT_COLUMNS / 8; // of a thread
    static constexpr uint32_t SUM_BYTES = CONSUMERS * WARPGROUP * SUM_VECTORS * 16;
    static constexpr uint32_t BARRIER_OFFSET = SUM_OFFSET + SUM_BYTES;
    static constexpr uint32_t SHARED_BYTES = BARRIER_OFFSET + 16 * (STAGES + 1);

    static_assert(KEYS % 32 == 0 && KEYS <= 256, "what wgmma multiplies and one bulk copy loads");
    static_assert(SHARED_BYTES <= 232448, "what a block can have");
};

} // namespace flux_rt
