/* out [n] = a [n] + scale * b [n], one rounding: spec dualcache 3, steps 2 and 5. Oracle:
   src/ops/cpu/add_scaled.rs, launcher: src/ops/cuda/add_scaled.rs.

   Entry add_scaled: grid (ceil(n / 4096)), 256 threads, no dynamic shared memory. */

#include "common/vector_io.cuh"

#include <cstddef>
#include <cstdint>
#include <cuda_bf16.h>

namespace flux_rt {

constexpr int ADD_SCALED_THREADS = 256;
// Elements of a block: two vectors a thread, both loaded before the first is added.
constexpr int ADD_SCALED_EACH = ADD_SCALED_THREADS * 16;

// 16-byte accesses where n is a multiple of 8 and the pointers are 16-byte aligned.
struct AddScaledParams {
    __nv_bfloat16 *out;     // [count]; neither `a` nor `b`
    const __nv_bfloat16 *a; // [count]
    const __nv_bfloat16 *b; // [count]
    int32_t count;          // n, at least 1
    float scale;
};
static_assert(sizeof(AddScaledParams) == 32, "mirrored by the launcher");
static_assert(offsetof(AddScaledParams, out) == 0, "mirrored by the launcher");
static_assert(offsetof(AddScaledParams, a) == 8, "mirrored by the launcher");
static_assert(offsetof(AddScaledParams, b) == 16, "mirrored by the launcher");
static_assert(offsetof(AddScaledParams, count) == 24, "mirrored by the launcher");
static_assert(offsetof(AddScaledParams, scale) == 28, "mirrored by the launcher");

// Two vectors of WIDTH values, neighbouring threads taking neighbouring ones. Behind the end the
// last vector is loaded again: loads without a condition are all under way before the first is
// waited for.
template <int WIDTH>
__device__ __forceinline__ void add_vectors(const AddScaledParams &params, int64_t start) {
    const int64_t last = params.count - WIDTH;
    float a[2][WIDTH], b[2][WIDTH];
#pragma unroll
    for (int v = 0; v < 2; ++v) {
        const int64_t index = start + v * ADD_SCALED_THREADS * WIDTH;
        load(a[v], params.a + (index < last ? index : last));
        load(b[v], params.b + (index < last ? index : last));
    }
#pragma unroll
    for (int v = 0; v < 2; ++v) {
        const int64_t index = start + v * ADD_SCALED_THREADS * WIDTH;
        if (index <= last) {
#pragma unroll
            for (int i = 0; i < WIDTH; ++i) {
                a[v][i] += params.scale * b[v][i];
            }
            store(params.out + index, a[v]);
        }
    }
}

// The block's elements, 8 / WIDTH times two vectors a thread.
template <int WIDTH> __device__ __forceinline__ void add_block(const AddScaledParams &params) {
    const int64_t first = static_cast<int64_t>(blockIdx.x) * ADD_SCALED_EACH;
#pragma unroll 1
    for (int part = 0; part < 8 / WIDTH; ++part) {
        const int of_block =
            (2 * part * ADD_SCALED_THREADS + static_cast<int>(threadIdx.x)) * WIDTH;
        add_vectors<WIDTH>(params, first + of_block);
    }
}

} // namespace flux_rt

extern "C" __global__ void __launch_bounds__(flux_rt::ADD_SCALED_THREADS)
    add_scaled(const __grid_constant__ flux_rt::AddScaledParams params) {
    using namespace flux_rt;
    if (multiples_of_8(params.count) && aligned_16(params.out, params.a, params.b)) {
        add_block<8>(params);
    } else {
        add_block<1>(params);
    }
}
