// Linear layers with their epilogue, Hopper tier (sm_90a: bulk tensor copies and wgmma):
//   out [M, N] = activation(residual [M, N] + gate [N] * (a [M, K] W [N, K]^T + bias [N]))
// for one or two row ranges with weights, bias and gate of their own, as kernels/gemm.cu.
//
// Entries gemm_sm90_<tile>_<activation>, 384 threads, clusters of 2 blocks along x:
//   tile      dynamic shared bytes   chunk columns   activations
//   128x256   231,584                64              none, gelu_tanh
//   256x144   230,688                48              none
//   128x192   216,272                64              none, gelu_tanh
// Grid: 2 * min(multiprocessors / 2, cluster tiles). A cluster tile is two tiles below each other;
// there are (ceil(rows[0] / M) + ceil(rows[1] / M)) * ceil(columns / N), M being both tiles' rows.
// May be launched with programmatic stream serialization.

#include "common/activation.cuh"
#include "common/bf16.cuh"
#include "common/hopper/activation.cuh"
#include "common/hopper/cluster.cuh"
#include "common/hopper/epilogue.cuh"
#include "common/hopper/grid.cuh"
#include "common/hopper/mbarrier.cuh"
#include "common/hopper/multiply.cuh"
#include "common/hopper/tensor_map.cuh"
#include "common/hopper/tile.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

// Maps are per segment and cover its rows alone, so that a tile that reaches over a segment's end
// reads zeros there and writes nothing: bf16, two dimensions, boxes of
//   a               64 columns x tile rows            128-byte swizzle
//   weight          64 columns x tile columns / 2     128-byte swizzle
//   residual, out   chunk columns x 64 rows           128-byte swizzle of 64 columns, none of 48
// A segment without rows may have any valid maps. Gate columns and the gate table's stride are
// multiples of 8, N and K too.
struct GemmSm90Params {
    TensorMap a[2];                  // [rows, k]
    TensorMap weight[2];             // [columns, k]
    TensorMap out[2];                // [rows, columns]
    TensorMap residual[2];           // [rows, columns]; unread unless has_residual
    const float *bias[2];            // [columns] per segment; or null
    const __nv_bfloat16 *gate_table; // [steps, gate_stride]; unread if both columns are negative
    const uint32_t *step;            // [1]: the row of gate_table
    int32_t rows[2];                 // of each segment
    int32_t columns;                 // N
    int32_t k;
    int32_t gate_stride;
    int32_t gate_column[2];       // first column in gate_table per segment; negative: no gate
    int32_t raster_rows;          // cluster tiles that share a sweep over the columns, at least 1
    int32_t has_residual;         // not 0: `residual` is read
    int32_t round_like_diffusers; // not 0: round to bf16 wherever PyTorch's bf16 tensors do
    int32_t reserved[6];          // 0
};
static_assert(sizeof(GemmSm90Params) == 1152, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, a) == 0, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, weight) == 256, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, out) == 512, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, residual) == 768, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, bias) == 1024, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, gate_table) == 1040, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, step) == 1048, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, rows) == 1056, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, columns) == 1064, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, k) == 1068, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, gate_stride) == 1072, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, gate_column) == 1076, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, raster_rows) == 1084, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, has_residual) == 1088, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, round_like_diffusers) == 1092, "mirrored by the launcher");
static_assert(offsetof(GemmSm90Params, reserved) == 1096, "mirrored by the launcher");

// Bias and gate of two neighbouring columns, as they lie in shared memory.
struct alignas(16) ColumnPair {
    float bias[2], gate[2];
};

template <class Tile> __device__ __forceinline__ ColumnPair *column_pairs(int slot) {
    uint8_t *const vectors = dynamic_shared() + Tile::VECTOR_OFFSET + slot * Tile::VECTOR_BYTES;
    return reinterpret_cast<ColumnPair *>(vectors);
}

// Loads bias and gate of every tile of this block, where a segment has none zeros and ones; called
// by one warp.
template <class Tile>
__device__ __forceinline__ void load_vectors(const SharedLayout<Tile> &shared,
                                             const GemmSm90Params &params,
                                             TileSchedule<Tile> schedule) {
    const int lane = threadIdx.x % 32;
    const __nv_bfloat16 *gates = nullptr;
    if (params.gate_column[0] >= 0 || params.gate_column[1] >= 0) {
        gates = params.gate_table + static_cast<int64_t>(*params.step) * params.gate_stride;
    }
    RingPosition<Tile::TILES_AT_WORK> ring;
    for (; !schedule.done(); schedule.advance()) {
        ColumnPair *const pairs = column_pairs<Tile>(ring.slot);
        const HopperPosition at = schedule.position();
        const float *const bias = params.bias[at.segment];
        const int gate_column = params.gate_column[at.segment];
        barrier_wait(shared.vectors_empty(ring.slot), ring.parity ^ 1);
        for (int pair = lane; pair < Tile::N / 2; pair += 32) {
            const int column = at.column + 2 * pair;
            ColumnPair loaded{{0.0f, 0.0f}, {1.0f, 1.0f}};
            if (column < params.columns && bias != nullptr) {
                loaded.bias[0] = bias[column];
                loaded.bias[1] = bias[column + 1];
            }
            if (column < params.columns && gate_column >= 0) {
                loaded.gate[0] = __bfloat162float(gates[gate_column + column]);
                loaded.gate[1] = __bfloat162float(gates[gate_column + column + 1]);
            }
            pairs[pair] = loaded;
        }
        __syncwarp();
        if (lane == 0) {
            barrier_arrive(shared.vectors_full(ring.slot));
        }
        ring.advance();
    }
}

// What is left to do with sums: for most layers to add the bias.
enum class Steps { BIAS, BIAS_GATE_RESIDUAL };

// Finishes the sums of one tile. ROUND rounds to bf16 after every operation, as PyTorch does.
template <class Tile, Activation ACTIVATION, Steps STEPS, bool ROUND> class LinearEpilogue {
    const ColumnPair *pairs; // of this lane's first column

    // bf16 is the upper half of an f32.
    __device__ static __forceinline__ float2 unpack(uint32_t word) {
        return make_float2(__uint_as_float(word << 16), __uint_as_float(word & 0xffff0000u));
    }

    __device__ static __forceinline__ float2 rounded(float2 values) {
        return ROUND ? unpack(pack_bf16(values.x, values.y)) : values;
    }

    __device__ static __forceinline__ uint32_t finish_pair(float low, float high,
                                                           const ColumnPair &column, uint32_t old) {
        float2 values = rounded(make_float2(low + column.bias[0], high + column.bias[1]));
        if (STEPS == Steps::BIAS_GATE_RESIDUAL) {
            const float2 before = unpack(old);
            values = rounded(make_float2(values.x * column.gate[0], values.y * column.gate[1]));
            values = rounded(make_float2(before.x + values.x, before.y + values.y));
        }
        if (ACTIVATION == Activation::GeluTanh) {
            values = make_float2(gelu_tanh_by_sigmoid(values.x), gelu_tanh_by_sigmoid(values.y));
        }
        return pack_bf16(values.x, values.y);
    }

  public:
    __device__ __forceinline__ explicit LinearEpilogue(int slot)
        : pairs(column_pairs<Tile>(slot) + threadIdx.x % 4) {}

    __device__ __forceinline__ void finish(uint32_t (&words)[4], const float *eight, int column,
                                           const uint32_t (&old)[4]) const {
#pragma unroll
        for (int right = 0; right < 2; ++right) {
            const ColumnPair pair = pairs[column / 2 + 4 * right];
#pragma unroll
            for (int lower = 0; lower < 2; ++lower) {
                const int word = 2 * right + lower;
                words[word] = finish_pair(eight[2 * word], eight[2 * word + 1], pair, old[word]);
            }
        }
    }
};

template <class Tile, Activation ACTIVATION>
__device__ __forceinline__ void
consume(const SharedLayout<Tile> &shared, const GemmSm90Params &params,
        const TileSchedule<Tile> &schedule, int consumer, int slabs) {
    const bool round = params.round_like_diffusers != 0, residual = params.has_residual != 0;
    const bool gated = params.gate_column[0] >= 0 || params.gate_column[1] >= 0;
    const int slot = Tile::IN_TURN ? consumer : 0;
    const int residual_stages = residual ? Tile::RESIDUAL_STAGES : 0;
    RingPosition<Tile::STAGES> stages;
    RingPosition<Tile::BUFFERS> buffers;
    uint32_t parity = 0; // of what happens once a tile
    if (Tile::IN_TURN) {
        stages.advance_by(consumer * (slabs + residual_stages));
    }
    for (int left = schedule.of_consumer(consumer).left(); left > 0; --left) {
        HopperSums<Tile> sums;
        // Waiting for a stage tells laps apart by their parity alone, so a consumer must not wait
        // for a stage before the other has seen all those before it full.
        if (Tile::IN_TURN) {
            barrier_wait(shared.turn(consumer), parity ^ (consumer == 0 ? 1 : 0));
        }
        multiply<Tile>(sums, shared, consumer, stages, slabs, [&] {
            if (Tile::IN_TURN && threadIdx.x % WARPGROUP == 0) {
                RingPosition<Tile::STAGES> ahead = stages;
                for (int stage = 0; stage < residual_stages; ++stage) {
                    barrier_wait(shared.full(ahead.slot), ahead.parity);
                    ahead.advance();
                }
                barrier_arrive(shared.turn(1 - consumer));
            }
        });
        barrier_wait(shared.vectors_full(slot), parity);
        const auto finish = [&](bool add, auto epilogue) {
            finish_tile<Tile>(sums, shared, consumer, stages, buffers, add, epilogue);
        };
        constexpr Steps FEW = Steps::BIAS, ALL = Steps::BIAS_GATE_RESIDUAL;
        if (residual || gated) {
            if (round) {
                finish(residual, LinearEpilogue<Tile, ACTIVATION, ALL, true>(slot));
            } else {
                finish(residual, LinearEpilogue<Tile, ACTIVATION, ALL, false>(slot));
            }
        } else if (round) {
            finish(false, LinearEpilogue<Tile, ACTIVATION, FEW, true>(slot));
        } else {
            finish(false, LinearEpilogue<Tile, ACTIVATION, FEW, false>(slot));
        }
        __syncwarp();
        if (threadIdx.x % 32 == 0) {
            barrier_arrive(shared.vectors_empty(slot));
        }
        parity ^= 1;
        if (Tile::IN_TURN) {
            stages.advance_by(slabs + residual_stages); // the other consumer's
        }
    }
}

template <class Tile>
__device__ __forceinline__ void init_barriers(const SharedLayout<Tile> &shared) {
    for (int stage = 0; stage < Tile::STAGES; ++stage) {
        barrier_init(shared.full(stage), 1);
        barrier_init(shared.empty(stage), Tile::READERS * Tile::CLUSTER);
    }
    for (int consumer = 0; consumer < CONSUMERS; ++consumer) {
        for (int buffer = 0; buffer < Tile::BUFFERS; ++buffer) {
            barrier_init(shared.stored(consumer, buffer), 1);
            barrier_init(shared.filled(consumer, buffer), WARPGROUP / 32);
        }
    }
    for (int slot = 0; slot < Tile::TILES_AT_WORK; ++slot) {
        barrier_init(shared.vectors_full(slot), 1);
        barrier_init(shared.vectors_empty(slot), Tile::READERS * WARPGROUP / 32);
    }
    for (int consumer = 0; consumer < CONSUMERS; ++consumer) {
        barrier_init(shared.turn(consumer), 1);
    }
    barrier_init_fence();
}

template <class Tile, Activation ACTIVATION>
__device__ __forceinline__ void gemm_sm90(const GemmSm90Params &params) {
    const SharedLayout<Tile> shared;
    const TileSchedule<Tile> schedule(params.rows, params.columns, params.raster_rows);
    const int slabs = (params.k + Tile::K - 1) / Tile::K;
    // Through a shuffle, the compiler knows that a whole warp takes the same branch.
    const int warp = __shfl_sync(~0u, static_cast<int>(threadIdx.x) / 32, 0);
    const int lane = threadIdx.x % 32;
    if (threadIdx.x == 0) {
        init_barriers(shared);
    } else if (warp == 1 && lane < 2) {
        prefetch_map(params.a[lane]);
        prefetch_map(params.weight[lane]);
        prefetch_map(params.out[lane]);
    }
    cluster_sync();
    wait_for_earlier_grids();
    admit_next_grid(); // there is no room beside this block: its successor starts when it ends

    if (warp < WARPGROUP / 32) {
        shrink_registers<Tile::PRODUCER_REGISTERS>();
        if (warp == 0 && lane == 0) {
            const TensorMap *const residual = params.has_residual != 0 ? params.residual : nullptr;
            load_inputs<Tile>(shared, {params.a, params.weight, residual}, schedule, slabs);
        } else if ((warp == 1 || warp == 2) && lane == 0) {
            store_chunks<Tile>(shared, warp - 1, params.out, schedule, slabs,
                               params.has_residual != 0);
        } else if (warp == 3) {
            load_vectors<Tile>(shared, params, schedule);
        }
    } else {
        grow_registers<Tile::CONSUMER_REGISTERS>();
        consume<Tile, ACTIVATION>(shared, params, schedule, warp / 4 - 1, slabs);
    }
    __syncwarp();
    // A block stays until no other of its cluster signals its barriers or writes its stages.
    cluster_sync();
}

// Clocks of a tile on an H100 at K = 3072: 128x256 multiplies for 49,200 (49,152 is what the tensor
// cores need) and finishes in 2,500, with GELU in 5,900. Multiplying in turn hides all but the last
// finish, so that 128x192 overtakes it where there is GELU, though it loads a ninth more bytes
// per product. 256x144 covers [4608, 3072] in exactly three tiles a multiprocessor.
using Gemm128x256 = HopperTile<128, 256, 4, 64, 2>;
using Gemm256x144 = HopperTile<256, 144, 4, 48, 2>;
using Gemm128x192 = HopperTile<128, 192, 4, 64, 3, Consumers::IN_TURN>;
static_assert(Gemm128x256::SHARED_BYTES == 231584, "header table");
static_assert(Gemm256x144::SHARED_BYTES == 230688, "header table");
static_assert(Gemm128x192::SHARED_BYTES == 216272, "header table");

} // namespace flux_rt

#define GEMM_SM90_ENTRY(name, tile, activation)                                                    \
    extern "C" __global__ void __cluster_dims__(flux_rt::tile::CLUSTER, 1, 1)                      \
        __launch_bounds__(flux_rt::tile::THREADS, 1)                                               \
            name(const __grid_constant__ flux_rt::GemmSm90Params params) {                         \
        flux_rt::gemm_sm90<flux_rt::tile, flux_rt::Activation::activation>(params);                \
    }

GEMM_SM90_ENTRY(gemm_sm90_128x256_none, Gemm128x256, None)
GEMM_SM90_ENTRY(gemm_sm90_128x256_gelu_tanh, Gemm128x256, GeluTanh)
GEMM_SM90_ENTRY(gemm_sm90_256x144_none, Gemm256x144, None)
GEMM_SM90_ENTRY(gemm_sm90_128x192_none, Gemm128x192, None)
GEMM_SM90_ENTRY(gemm_sm90_128x192_gelu_tanh, Gemm128x192, GeluTanh)
