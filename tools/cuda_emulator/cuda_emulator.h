// Runs a CUDA kernel's source on the CPU: one fiber per CUDA thread, blocks one after another.
// See README.md. Include this first, then the .cu file, then ptx_bodies.h.
#pragma once
#define FLUX_RT_HOST_EMULATION 1

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <string>
#include <type_traits>
#include <vector>
#include <sys/mman.h>

#include <vector_types.h>
#include <vector_functions.h>
#include <cuda_bf16.h>

#undef __global__
#undef __device__
#undef __host__
#undef __shared__
#undef __constant__
#undef __forceinline__
#undef __noinline__
#undef __launch_bounds__
#undef __grid_constant__
#undef __restrict__
#undef __align__
#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __constant__ static
#define __forceinline__ inline
#define __noinline__
#define __launch_bounds__(...)
#define __grid_constant__
#define __restrict__ __restrict
#define __align__(n) alignas(n)

namespace emulator {

[[noreturn]] inline void fail(const char *format, ...) {
    va_list args;
    va_start(args, format);
    std::fprintf(stderr, "EMULATOR: ");
    std::vfprintf(stderr, format, args);
    std::fprintf(stderr, "\n");
    std::abort();
}

struct Random {
    uint64_t state = 1;
    uint32_t next() {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return static_cast<uint32_t>(state >> 33);
    }
    uint32_t below(uint32_t n) { return next() % n; }
    float uniform() { return next() / float(1u << 30) - 1.0f; } // [-1, 1)
};
inline Random scheduler_random;

// --- memory with guard pages ---------------------------------------------------------------------
constexpr size_t PAGE = 4096;

template <class T> class Guarded {
    uint8_t *map = nullptr;
    size_t mapped = 0, bytes = 0;
    T *begin = nullptr;
    uint8_t *low = nullptr;

  public:
    size_t count = 0;
    explicit Guarded(size_t count_, uint8_t fill = 0xff) : count(count_) {
        bytes = count * sizeof(T);
        const size_t rounded = (bytes + 15) / 16 * 16, pages = (rounded + PAGE - 1) / PAGE + 1;
        mapped = (pages + 2) * PAGE;
        map = static_cast<uint8_t *>(mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        if (map == MAP_FAILED) fail("mmap of %zu bytes", mapped);
        mprotect(map, PAGE, PROT_NONE);
        mprotect(map + mapped - PAGE, PAGE, PROT_NONE);
        low = map + PAGE;
        std::memset(low, 0xcd, mapped - 2 * PAGE);
        begin = reinterpret_cast<T *>(map + mapped - PAGE - rounded); // 16-byte aligned, ends at the guard page
        std::memset(static_cast<void *>(begin), fill, bytes);
    }
    Guarded(const Guarded &) = delete;
    ~Guarded() { check(); munmap(map, mapped); }
    // The bytes around the buffer are untouched.
    void check() const {
        for (const uint8_t *p = low; p < reinterpret_cast<uint8_t *>(begin); ++p)
            if (*p != 0xcd) fail("write before a buffer");
        for (const uint8_t *p = reinterpret_cast<uint8_t *>(begin) + bytes; p < map + mapped - PAGE; ++p)
            if (*p != 0xcd) fail("write after a buffer");
    }
    T *data() { return begin; }
    const T *data() const { return begin; }
    T &operator[](size_t i) { if (i >= count) fail("host index"); return begin[i]; }
    const T &operator[](size_t i) const { if (i >= count) fail("host index"); return begin[i]; }
};

// --- fibers --------------------------------------------------------------------------------------
enum class State { Ready, WaitWarp, WaitBlock, Done };
struct Copy { uint8_t *destination; const void *source; bool valid; };
struct Thread {
    uint3 index{};
    int linear = 0, lane = 0, warp = 0;
    State state = State::Ready;
    void *stack_pointer = nullptr;
    uint8_t *stack = nullptr;
    uint32_t collectives = 0;
    std::deque<std::vector<Copy>> groups; // closed and unfinished, oldest first
    std::vector<Copy> open_group;
};
struct Slot { uint32_t words[8]; int kind; };
struct Warp { int lanes = 0, arrived = 0; Slot slots[2][32]; };

inline Thread *current = nullptr;
inline std::vector<Thread> threads;
inline std::vector<Warp> warps;
inline void *scheduler_stack_pointer = nullptr;
inline std::function<void()> *body = nullptr;
inline uint3 block_index;
inline dim3 block_dim, grid_dim;
inline uint8_t *shared_memory = nullptr;
inline size_t shared_bytes = 0;
inline bool defer_copies = true;
struct Statistics { uint64_t mma = 0, ldmatrix = 0, ldmatrix_conflicts = 0, copies = 0, barriers = 0; };
inline Statistics statistics;

constexpr size_t STACK = 256 * 1024;
constexpr uint32_t SHARED_BASE = 1024; // shared addresses start here, so that 0 is never valid

extern "C" void emulator_switch(void **save, void *load);
asm(R"(
.text
.globl emulator_switch
emulator_switch:
    pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp
    ret
)");

inline void to_scheduler() { emulator_switch(&current->stack_pointer, scheduler_stack_pointer); }

inline void fiber_main() {
    (*body)();
    if (!current->open_group.empty()) fail("a thread ends with an uncommitted cp.async");
    for (const auto &group : current->groups)
        if (!group.empty()) fail("a thread ends before its cp.async have been waited for");
    current->state = State::Done;
    to_scheduler();
    fail("a finished thread was resumed");
}

// Exchanges `payload` among the 32 lanes; returns everybody's.
inline const Slot *warp_exchange(int kind, const uint32_t *payload, int words) {
    Thread *self = current;
    Warp &warp = warps[self->warp];
    Slot *slots = warp.slots[self->collectives++ % 2];
    std::memcpy(slots[self->lane].words, payload, 4 * words);
    slots[self->lane].kind = kind;
    ++warp.arrived;
    self->state = State::WaitWarp;
    to_scheduler();
    if (slots[self->lane].kind != slots[0].kind) fail("lanes of a warp are at different collectives");
    return slots;
}

inline void block_barrier() {
    current->state = State::WaitBlock;
    to_scheduler();
}

inline void run_block() {
    const int count = static_cast<int>(threads.size());
    for (Thread &thread : threads) {
        thread.state = State::Ready;
        thread.collectives = 0;
        thread.groups.clear();
        thread.open_group.clear();
        uint64_t *top = reinterpret_cast<uint64_t *>(thread.stack + STACK - 64);
        *--top = 0; // keeps the stack 16-byte aligned at entry
        *--top = reinterpret_cast<uint64_t>(&fiber_main);
        for (int i = 0; i < 6; ++i) *--top = 0;
        thread.stack_pointer = top;
    }
    const uint32_t sticky = scheduler_random.below(3) * 50; // 0, 50 or 100 % that a warp goes on
    int warp_index = 0;
    for (Warp &warp : warps) warp.arrived = 0;
    int done = 0;
    while (done < count) {
        // Choose a warp with a ready lane.
        int chosen = -1;
        if (scheduler_random.below(100) >= sticky) warp_index = scheduler_random.below(warps.size());
        for (size_t k = 0; k < warps.size() && chosen < 0; ++k) {
            const int w = (warp_index + k) % warps.size();
            for (int lane = 0; lane < 32 && chosen < 0; ++lane) {
                const int t = w * 32 + lane;
                if (t < count && threads[t].state == State::Ready) chosen = w;
            }
        }
        if (chosen < 0) { // everybody waits: for the block, or it is a deadlock
            for (Thread &thread : threads)
                if (thread.state == State::WaitWarp)
                    fail("deadlock: thread %d waits for its warp, others for the block or are done", thread.linear);
            ++statistics.barriers;
            for (Thread &thread : threads)
                if (thread.state == State::WaitBlock) thread.state = State::Ready;
            continue;
        }
        warp_index = chosen;
        const int first_lane = scheduler_random.below(32);
        for (int k = 0; k < 32; ++k) {
            const int t = chosen * 32 + (first_lane + k) % 32;
            if (t >= count || threads[t].state != State::Ready) continue;
            current = &threads[t];
            emulator_switch(&scheduler_stack_pointer, current->stack_pointer);
            if (current->state == State::Done) ++done;
        }
        Warp &warp = warps[chosen];
        if (warp.arrived == warp.lanes) {
            warp.arrived = 0;
            for (int lane = 0; lane < 32; ++lane) {
                const int t = chosen * 32 + lane;
                if (t < count && threads[t].state == State::WaitWarp) threads[t].state = State::Ready;
            }
        }
    }
}

// Runs `kernel` (a call of the __global__ function) for every block.
inline void launch(dim3 grid, dim3 block, size_t dynamic_bytes, std::function<void()> kernel) {
    block_dim = block;
    grid_dim = grid;
    const int count = block.x * block.y * block.z;
    if (count % 32 != 0) fail("block size must be a multiple of 32 here");
    for (Thread &thread : threads) munmap(thread.stack, STACK);
    threads.assign(count, Thread{});
    warps.assign(count / 32, Warp{});
    for (int t = 0; t < count; ++t) {
        threads[t].linear = t;
        threads[t].index = make_uint3(t % block.x, t / block.x % block.y, t / (block.x * block.y));
        threads[t].lane = t % 32;
        threads[t].warp = t / 32;
        threads[t].stack = static_cast<uint8_t *>(mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        ++warps[t / 32].lanes;
    }
    // Shared memory on a 1,024-byte boundary; the bytes after it are checked.
    const size_t room = dynamic_bytes + PAGE;
    uint8_t *map = static_cast<uint8_t *>(mmap(nullptr, room + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    shared_memory = map;
    shared_bytes = dynamic_bytes;
    body = &kernel;
    // Blocks in random order: no kernel may count on an order.
    std::vector<uint3> order;
    for (unsigned z = 0; z < grid.z; ++z)
        for (unsigned y = 0; y < grid.y; ++y)
            for (unsigned x = 0; x < grid.x; ++x) order.push_back(make_uint3(x, y, z));
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[scheduler_random.below(i)]);
    for (const uint3 &index : order) {
                block_index = index;
                std::memset(shared_memory, 0xff, dynamic_bytes); // NaN everywhere
                std::memset(shared_memory + dynamic_bytes, 0xcd, PAGE);
                run_block();
                for (size_t i = 0; i < PAGE; ++i)
                    if (shared_memory[dynamic_bytes + i] != 0xcd) fail("write after the dynamic shared memory");
            }
    munmap(map, room + PAGE);
}

inline uint8_t *shared_pointer(uint32_t address, uint32_t bytes, uint32_t alignment) {
    if (address < SHARED_BASE || address + bytes > SHARED_BASE + shared_bytes)
        fail("shared address %u outside %zu bytes", address, shared_bytes);
    if (address % alignment != 0) fail("shared address %u not aligned to %u", address, alignment);
    return shared_memory + (address - SHARED_BASE);
}

inline void finish_copy(const Copy &copy) {
    if (copy.valid) std::memcpy(copy.destination, copy.source, 16);
    else std::memset(copy.destination, 0, 16);
}

} // namespace emulator

#define threadIdx (emulator::current->index)
#define blockIdx (emulator::block_index)
#define blockDim (emulator::block_dim)
#define gridDim (emulator::grid_dim)

inline void __syncthreads() { emulator::block_barrier(); }
inline void __syncwarp(unsigned mask = ~0u) {
    if (mask != ~0u) emulator::fail("partial warp masks are not emulated");
    uint32_t zero = 0;
    emulator::warp_exchange(1, &zero, 1);
}
template <class T> T emulated_shuffle(unsigned mask, T value, int source) {
    static_assert(sizeof(T) == 4 || sizeof(T) == 8, "shuffles of one or two words");
    if (mask != ~0u) emulator::fail("partial warp masks are not emulated");
    uint32_t words[sizeof(T) / 4];
    std::memcpy(words, &value, sizeof(T));
    const emulator::Slot *slots = emulator::warp_exchange(2, words, sizeof(T) / 4);
    std::memcpy(&value, slots[source].words, sizeof(T));
    return value;
}
template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    const int lane = emulator::current->lane;
    return emulated_shuffle(mask, value, lane / width * width + source % width);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int xor_mask, int width = 32) {
    const int lane = emulator::current->lane, other = lane ^ xor_mask;
    return emulated_shuffle(mask, value, other / width <= lane / width ? other : lane);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, int delta, int width = 32) {
    const int lane = emulator::current->lane;
    return emulated_shuffle(mask, value, lane % width + delta < width ? lane + delta : lane);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, int delta, int width = 32) {
    const int lane = emulator::current->lane;
    return emulated_shuffle(mask, value, lane % width >= delta ? lane - delta : lane);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
    if (mask != ~0u) emulator::fail("partial warp masks are not emulated");
    uint32_t word = predicate != 0;
    const emulator::Slot *slots = emulator::warp_exchange(3, &word, 1);
    unsigned result = 0;
    for (int lane = 0; lane < 32; ++lane) result |= slots[lane].words[0] << lane;
    return result;
}
inline int __any_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) != 0; }
inline int __all_sync(unsigned mask, int predicate) { return __ballot_sync(mask, predicate) == ~0u; }

inline float __uint_as_float(unsigned word) { float value; std::memcpy(&value, &word, 4); return value; }
inline unsigned __float_as_uint(float value) { unsigned word; std::memcpy(&word, &value, 4); return word; }
inline float __int_as_float(int word) { float value; std::memcpy(&value, &word, 4); return value; }
inline int __float_as_int(float value) { int word; std::memcpy(&word, &value, 4); return word; }
inline float rsqrtf(float x) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x))); }
inline float __fdividef(float a, float b) { return a / b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
extern "C" inline float __expf(float x) { return std::exp(x); }
inline float __frcp_rn(float a) { return 1.0f / a; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
// Blocks run one after another, and a fiber gives way at collectives alone.
inline void __threadfence() {}
inline uint32_t atomicAdd(uint32_t *pointer, uint32_t value) { const uint32_t old = *pointer; *pointer += value; return old; }
inline double __hiloint2double(int high, int low) {
    const uint64_t bits = static_cast<uint64_t>(static_cast<uint32_t>(high)) << 32 | static_cast<uint32_t>(low);
    double value;
    std::memcpy(&value, &bits, 8);
    return value;
}
inline int __double2hiint(double value) { uint64_t bits; std::memcpy(&bits, &value, 8); return static_cast<int>(bits >> 32); }
inline int __double2loint(double value) { uint64_t bits; std::memcpy(&bits, &value, 8); return static_cast<int>(bits & 0xffffffffu); }
template <class T> T __ldcg(const T *pointer) { return *pointer; }
template <class T> T __ldg(const T *pointer) { return *pointer; }
template <class T> void __stcs(T *pointer, T value) { *pointer = value; }
template <class T> T __ldcs(const T *pointer) { return *pointer; }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline unsigned min(unsigned a, unsigned b) { return a < b ? a : b; }
inline unsigned max(unsigned a, unsigned b) { return a > b ? a : b; }
inline float min(float a, float b) { return std::fmin(a, b); }
inline float max(float a, float b) { return std::fmax(a, b); }
