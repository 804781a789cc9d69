// The two products of the Hopper attention kernels: scores = q k^T, of any element type, and out +=
// p v, of bf16.
#pragma once

#include "../bf16.cuh"
#include "attention_shape.cuh"
#include "loads.cuh"
#include "mbarrier.cuh"
#include "wgmma.cuh"
#include "wgmma_registers.cuh"

#include <cstdint>

namespace flux_rt {

// Products of 64 queries with 128 keys, 16 columns of bf16 a step.
struct KeyProducts {
    __device__ static __forceinline__ void multiply(float (&d)[64], const uint32_t (&a)[4],
                                                    uint64_t b, bool accumulate) {
        multiply_registers<BOperand::COLUMNS>(d, a, b, accumulate);
    }
};

// The queries of a consumer, in registers. A step is 32 bytes of each row, of any element type:
// the operand's words in registers lie as ldmatrix loads them.
template <class Shape, class Products> class ConsumerQueries {
    static constexpr int STEPS = Shape::PANELS * 4;
    const AttentionMemory<Shape> &shared;
    const int consumer;
    uint32_t parity = 0;
    uint32_t words[STEPS][4];

  public:
    __device__ __forceinline__ ConsumerQueries(const AttentionMemory<Shape> &shared, int consumer)
        : shared(shared), consumer(consumer) {}

    // Waits for the next tile's and takes them.
    __device__ __forceinline__ void take() {
        barrier_wait(shared.q_full(), parity);
        parity ^= 1;
        const uint32_t lane = threadIdx.x % 32;
        const uint32_t row = 64 * consumer + threadIdx.x % 128 / 32 * 16 + lane % 16;
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            const uint32_t chunk = (step % 4 * 2 + lane / 16) ^ (lane % 8);
            const uint32_t address =
                shared.q() + step / 4 * Shape::Q_PANEL_BYTES + row * 128 + chunk * 16;
            asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                         : "=r"(words[step][0]), "=r"(words[step][1]), "=r"(words[step][2]),
                           "=r"(words[step][3])
                         : "r"(address)
                         : "memory");
        }
        complete_loads(folded(words));
        __syncwarp();
        if (lane == 0) {
            barrier_arrive(shared.q_empty());
        }
    }

    // Starts the products with a block of keys.
    __device__ __forceinline__ void multiply(float (&scores)[Shape::KEYS / 2],
                                             uint32_t key_tile) const {
        const uint64_t k = operand_descriptor(key_tile);
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            const uint64_t key_step =
                k + step / 4 * (Shape::PANEL_BYTES >> 4) + step % 4 * NEXT_32_BYTES;
            Products::multiply(scores, words[step], key_step, step > 0);
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
        multiply_registers<BOperand::ROWS>(out, p[step], v + step * NEXT_16_ROWS,
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
