// The two products of the Hopper attention kernel, scores = q k^T and out += p v, and the turns in
// which the consumers hand them out.
#pragma once

#include "../bf16.cuh"
#include "attention_shape.cuh"
#include "mbarrier.cuh"
#include "wgmma.cuh"
#include "wgmma_registers.cuh"

#include <cstdint>

namespace flux_rt {

// The queries of a consumer: where they lie, or, with Q_IN_REGISTERS, the queries themselves.
template <class Shape> class ConsumerQueries {
    static constexpr int STEPS = Shape::HEAD_DIM / 16;
    const AttentionMemory<Shape> &shared;
    const int consumer;
    RingPosition<Shape::Q_BUFFERS> ring;
    uint32_t words[STEPS][4]; // unused unless Q_IN_REGISTERS

  public:
    __device__ __forceinline__ ConsumerQueries(const AttentionMemory<Shape> &shared, int consumer)
        : shared(shared), consumer(consumer) {}

    // Waits for the next tile's.
    __device__ __forceinline__ void begin() {
        barrier_wait(shared.q_full(ring.slot), ring.parity);
        if (Shape::Q_IN_REGISTERS) {
            const uint32_t lane = threadIdx.x % 32;
            const uint32_t row = 64 * consumer + threadIdx.x % 128 / 32 * 16 + lane % 16;
#pragma unroll
            for (int step = 0; step < STEPS; ++step) {
                const uint32_t chunk = (step % 4 * 2 + lane / 16) ^ (lane % 8);
                const uint32_t address =
                    shared.q(ring.slot) + step / 4 * Shape::Q_PANEL_BYTES + row * 128 + chunk * 16;
                asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                             : "=r"(words[step][0]), "=r"(words[step][1]), "=r"(words[step][2]),
                               "=r"(words[step][3])
                             : "r"(address)
                             : "memory");
            }
            release();
        }
    }

    // The tile's last scores are done.
    __device__ __forceinline__ void end() {
        if (!Shape::Q_IN_REGISTERS) {
            release();
        }
    }

    // Starts the products with a block of keys.
    __device__ __forceinline__ void multiply(float (&scores)[Shape::KEYS / 2],
                                             uint32_t key_tile) const {
        const uint64_t q =
            operand_descriptor(__shfl_sync(~0u, shared.q(ring.slot) + consumer * (64 * 128), 0));
        const uint64_t k = operand_descriptor(key_tile);
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            const uint64_t key_step =
                k + step / 4 * (Shape::PANEL_BYTES >> 4) + step % 4 * NEXT_16_COLUMNS;
            if constexpr (Shape::Q_IN_REGISTERS) {
                RegisterProducts<Shape::KEYS, false>::multiply(scores, words[step], key_step,
                                                               step > 0);
            } else {
                const uint64_t query_step =
                    q + step / 4 * (Shape::Q_PANEL_BYTES >> 4) + step % 4 * NEXT_16_COLUMNS;
                Products<Shape::KEYS>::multiply(scores, query_step, key_step, step > 0);
            }
        }
    }

  private:
    // From registers, each warp has read its own rows; products are a whole warpgroup's.
    __device__ __forceinline__ void release() {
        __syncwarp();
        if (threadIdx.x % (Shape::Q_IN_REGISTERS ? 32 : 128) == 0) {
            barrier_arrive(shared.q_empty(ring.slot));
        }
        ring.advance();
    }
};

// The consumers' turns: named barriers 1 and 2, each passed by one and reported to by the other.
template <class Shape> class Turns {
    const int consumer;

  public:
    __device__ __forceinline__ explicit Turns(int consumer) : consumer(consumer) {
        if (Shape::TURNS && consumer == 1) {
            give();
        }
    }
    __device__ __forceinline__ void wait() const {
        if (Shape::TURNS) {
            asm volatile("barrier.cta.sync.aligned %0, 256;" ::"r"(1 + consumer) : "memory");
        }
    }
    __device__ __forceinline__ void give() const {
        if (Shape::TURNS) {
            asm volatile("barrier.cta.arrive.aligned %0, 256;" ::"r"(2 - consumer) : "memory");
        }
    }
    // Nobody waits for the second consumer's last turn.
    __device__ __forceinline__ void give_last() const {
        if (consumer == 0) {
            give();
        }
    }
};

// Starts the products of probabilities with a block of V.
template <class Shape>
__device__ __forceinline__ void multiply_values(float (&out)[64],
                                                const uint32_t (&p)[Shape::KEYS / 16][4],
                                                uint32_t value_tile, bool accumulate) {
    const uint64_t v = rows_descriptor(value_tile, Shape::PANEL_BYTES);
#pragma unroll
    for (int step = 0; step < Shape::KEYS / 16; ++step) {
        RegisterProducts<128, true>::multiply(out, p[step], v + step * NEXT_16_ROWS,
                                              accumulate || step > 0);
    }
}

template <int COUNT>
__device__ __forceinline__ void pack_probabilities(uint32_t (&p)[COUNT / 8][4],
                                                   const float (&scores)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT / 2; ++i) {
        p[i / 4][i % 4] = pack_bf16(scores[2 * i], scores[2 * i + 1]);
    }
}

} // namespace flux_rt
