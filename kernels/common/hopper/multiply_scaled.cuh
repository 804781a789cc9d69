// The main loop where every slab's products have scales of their own: the tensor cores add up one
// slab, and f32 sums take it in, multiplied by the scale of A's row. That also keeps sums over long
// K exact, which the tensor cores add up with fewer bits.
#pragma once

#include "loads.cuh"
#include "mbarrier.cuh"
#include "multiply.cuh"
#include "tile.cuh"
#include "wgmma.cuh"

#include <cstdint>

namespace flux_rt {

// As multiply(). Scales begin behind the first `scales_before` that were copied. A consumer's
// chains take turns with one set of partial sums, for more there are no registers; while it adds
// one to the sums, the tensor cores work for the other consumer.
template <class Tile>
__device__ __forceinline__ void
multiply_scaled(HopperSums<Tile> &sums, const SharedLayout<Tile> &shared, int consumer,
                RingPosition<Tile::STAGES> &ring, int slabs, int scales_before) {
    static_assert(!Tile::IN_TURN, "the consumers hide each other's additions");
    const int warp = threadIdx.x % WARPGROUP / 32, lane = threadIdx.x % 32;
    const float *const scales =
        reinterpret_cast<const float *>(dynamic_shared() + Tile::SLAB_SCALE_OFFSET +
                                        consumer * Tile::SLAB_SCALE_PITCH) +
        scales_before + 16 * warp + lane / 4;
    const uint32_t a_offset = consumer * Tile::CONSUMER_M * Tile::SLAB_BYTES;
#pragma unroll
    for (int chain = 0; chain < Tile::CHAINS; ++chain) {
#pragma unroll
        for (int i = 0; i < Tile::N / 2; ++i) {
            sums[chain][i] = 0.0f;
        }
    }
#pragma unroll 1
    for (int slab = 0; slab < slabs; ++slab) {
        barrier_wait(shared.full(ring.slot), ring.parity);
        const uint64_t a = operand_descriptor(shared.a(ring.slot) + a_offset);
        const uint64_t b = operand_descriptor(shared.b(ring.slot));
#pragma unroll
        for (int chain = 0; chain < Tile::CHAINS; ++chain) {
            constexpr int STAGE_SCALES = CONSUMERS * Tile::SLAB_SCALE_PITCH / 4;
            const float *const of_chain = scales + ring.slot * STAGE_SCALES + chain * 64;
            const float upper = of_chain[0], lower = of_chain[8];
            float partial[Tile::N / 2];
            products_fence();
#pragma unroll
            for (int step = 0; step < Tile::SLAB_BYTES / 32; ++step) {
                Products<Tile::OPERAND, Tile::N>::multiply(
                    partial, a + chain * NEXT_64_ROWS + step * NEXT_32_BYTES,
                    b + step * NEXT_32_BYTES, step > 0);
            }
            products_commit();
            products_wait<0>();
            if (chain == Tile::CHAINS - 1) {
                complete_loads(__float_as_uint(upper) ^ __float_as_uint(lower));
                release_stage<Tile>(shared, ring.slot);
            }
            pin(partial);
#pragma unroll
            for (int i = 0; i < Tile::N / 2; ++i) {
                sums[chain][i] += partial[i] * (i % 4 < 2 ? upper : lower);
            }
        }
        ring.advance();
    }
}

} // namespace flux_rt
