// Bodies of the wrapper functions in kernels/common/{shared_memory,cp_async,mma}.cuh. Include after
// the .cu file; define EMULATE_WITHOUT_MMA etc. if a kernel does not include that header.
#pragma once
#include <array>
#include <cmath>

namespace flux_rt {

#ifndef EMULATE_WITHOUT_SHARED_MEMORY
inline uint8_t *dynamic_shared() { return emulator::shared_memory; }
inline uint32_t shared_address(const void *pointer) {
    const uint8_t *byte = static_cast<const uint8_t *>(pointer);
    if (byte < emulator::shared_memory || byte > emulator::shared_memory + emulator::shared_bytes)
        emulator::fail("not a pointer to dynamic shared memory");
    return emulator::SHARED_BASE + static_cast<uint32_t>(byte - emulator::shared_memory);
}
#endif

#ifndef EMULATE_WITHOUT_CP_ASYNC
// The destination is NaN until the copy is done: at once, or as late as its wait (by chance).
inline void cp_async_16(uint32_t destination, const void *source, bool valid) {
    ++emulator::statistics.copies;
    if (valid && reinterpret_cast<uintptr_t>(source) % 16 != 0) emulator::fail("cp.async source not 16-byte aligned");
    emulator::Copy copy{emulator::shared_pointer(destination, 16, 16), source, valid};
    std::memset(copy.destination, 0xff, 16);
    if (emulator::defer_copies && emulator::scheduler_random.below(2)) {
        emulator::current->open_group.push_back(copy);
    } else {
        emulator::finish_copy(copy);
        emulator::current->open_group.push_back({nullptr, nullptr, false});
    }
}
inline void cp_async_commit() {
    emulator::current->groups.push_back(std::move(emulator::current->open_group));
    emulator::current->open_group.clear();
}
template <int PENDING> void cp_async_wait() {
    auto &groups = emulator::current->groups;
    while (static_cast<int>(groups.size()) > PENDING) {
        for (const emulator::Copy &copy : groups.front())
            if (copy.destination != nullptr) emulator::finish_copy(copy);
        groups.pop_front();
    }
}
#endif

#ifndef EMULATE_WITHOUT_MMA
inline void emulated_ldmatrix(uint32_t (&words)[4], uint32_t row_address, bool transposed) {
    const emulator::Slot *slots = emulator::warp_exchange(transposed ? 11 : 10, &row_address, 1);
    const int lane = emulator::current->lane, g = lane / 4, q = lane % 4;
    if (lane == 0) {
        ++emulator::statistics.ldmatrix;
        for (int i = 0; i < 4; ++i) {
            unsigned banks = 0;
            for (int r = 0; r < 8; ++r) banks |= 1u << (slots[8 * i + r].words[0] / 16 % 8);
            emulator::statistics.ldmatrix_conflicts += 8 - __builtin_popcount(banks);
        }
    }
    for (int i = 0; i < 4; ++i) {
        if (!transposed) {
            std::memcpy(&words[i], emulator::shared_pointer(slots[8 * i + g].words[0], 16, 16) + 4 * q, 4);
        } else {
            uint16_t low, high;
            std::memcpy(&low, emulator::shared_pointer(slots[8 * i + 2 * q].words[0], 16, 16) + 2 * g, 2);
            std::memcpy(&high, emulator::shared_pointer(slots[8 * i + 2 * q + 1].words[0], 16, 16) + 2 * g, 2);
            words[i] = low | static_cast<uint32_t>(high) << 16;
        }
    }
}
inline void ldmatrix_x4(uint32_t (&words)[4], uint32_t row_address) { emulated_ldmatrix(words, row_address, false); }
inline void ldmatrix_x4_trans(uint32_t (&words)[4], uint32_t row_address) { emulated_ldmatrix(words, row_address, true); }

// PTX ISA, mma.m16n8k16 fragments: element k of row `row` of A is in lane 4 (row % 8) + k % 8 / 2,
// word (row / 8) + 2 (k / 8), half k % 2; element k of column `n` of B in lane 4 n + k % 8 / 2,
// word k / 8, half k % 2.
inline void mma_m16n8k16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    const uint32_t payload[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const emulator::Slot *slots = emulator::warp_exchange(12, payload, 6);
    const int lane = emulator::current->lane, g = lane / 4, q = lane % 4;
    if (lane == 0) ++emulator::statistics.mma;
    auto half = [](uint32_t word, int k) { return __uint_as_float(k % 2 ? word & 0xffff0000u : word << 16); };
    for (int e = 0; e < 4; ++e) {
        const int row = g + e / 2 * 8, column = 2 * q + e % 2;
        float sum = d[e];
        for (int k = 0; k < 16; ++k) {
            const uint32_t word_a = slots[4 * (row % 8) + k % 8 / 2].words[row / 8 + 2 * (k / 8)];
            const uint32_t word_b = slots[4 * column + k % 8 / 2].words[4 + k / 8];
            sum += half(word_a, k) * half(word_b, k);
        }
        d[e] = sum;
    }
}

// The number that a byte of e4m3 stands for.
inline float e4m3_value(uint32_t byte) {
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    const float magnitude = exponent == 15 && mantissa == 7 ? NAN
                            : exponent == 0                 ? std::ldexp(float(mantissa), -9)
                                                            : std::ldexp(float(8 + mantissa), exponent - 10);
    return byte & 0x80 ? -magnitude : magnitude;
}

// PTX ISA, mma.m16n8k32 fragments of 8 bits: element k of row `row` of A is in lane 4 (row % 8) + k % 16 / 4,
// word (row / 8) + 2 (k / 16), byte k % 4; element k of column `n` of B in lane 4 n + k % 16 / 4, word k / 16, byte k % 4.
inline void mma_m16n8k32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
    const uint32_t payload[6] = {a[0], a[1], a[2], a[3], b[0], b[1]};
    const emulator::Slot *slots = emulator::warp_exchange(13, payload, 6);
    const int lane = emulator::current->lane, g = lane / 4, q = lane % 4;
    if (lane == 0) ++emulator::statistics.mma;
    static const auto table = [] {
        std::array<float, 256> values;
        for (int byte = 0; byte < 256; ++byte) values[byte] = e4m3_value(byte);
        return values;
    }();
    for (int e = 0; e < 4; ++e) {
        const int row = g + e / 2 * 8, column = 2 * q + e % 2;
        float sum = d[e];
        for (int k = 0; k < 32; ++k) {
            const uint32_t word_a = slots[4 * (row % 8) + k % 16 / 4].words[row / 8 + 2 * (k / 16)];
            const uint32_t word_b = slots[4 * column + k % 16 / 4].words[4 + k / 16];
            sum += table[word_a >> 8 * (k % 4) & 255] * table[word_b >> 8 * (k % 4) & 255];
        }
        d[e] = sum;
    }
}
#endif

} // namespace flux_rt
