// Where the 16-byte chunks of a tile's rows lie in shared memory. Eight rows' chunks of one column,
// which ldmatrix reads together, must fall into the eight different 16-byte groups of the 32 banks:
// the chunk index is XORed with row bits. Adding a multiple of 8 rows adds plain bytes.
#pragma once

#include <cstdint>

namespace flux_rt {

// Byte offset of chunk `chunk` (16 bytes) of row `row`; the tile's base is aligned to 1,024 bytes.
template <int ROW_BYTES>
__host__ __device__ constexpr uint32_t swizzled(uint32_t row, uint32_t chunk) {
    static_assert(ROW_BYTES == 64 || ROW_BYTES % 128 == 0,
                  "rows of 64 bytes (two a bank line) or of whole bank lines");
    // Two 64-byte rows share a line of banks, so their XOR moves on every second row.
    const uint32_t moved = ROW_BYTES == 64 ? (row >> 1) & 3 : row & 7;
    return row * ROW_BYTES + ((chunk ^ moved) << 4);
}

} // namespace flux_rt
