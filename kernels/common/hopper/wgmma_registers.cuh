// Tensor-core products of a warpgroup (wgmma) whose A comes from registers: sums [64, N] += A [64,
// 16] B, bf16 operands, f32 sums laid out as in wgmma.cuh. A's four words in warp w, lane 4 g + q:
// rows 16 w + g and + 8 in turn, of the columns 2 q and + 1, then of 8 further; eight neighbouring
// sums of an earlier product, packed in pairs, are such words.
#pragma once

#include "wgmma.cuh"

#include <cstdint>

namespace flux_rt {

// Describes B [k, N] as it lies in memory by rows of 64 columns (128 bytes, 128-byte swizzle,
// groups of 8 rows follow each other), from shared address `tile` on, aligned to 1,024 bytes; the
// next 64 columns are `panel_bytes` away.
__device__ __forceinline__ uint64_t rows_descriptor(uint32_t tile, uint32_t panel_bytes) {
    constexpr uint64_t SWIZZLE_128 = 1ull << 62, GROUP_STRIDE = 1024ull >> 4 << 32;
    const uint64_t panel_stride = static_cast<uint64_t>(panel_bytes >> 4) << 16;
    return SWIZZLE_128 | GROUP_STRIDE | panel_stride | ((tile & 0x3ffff) >> 4);
}

// What to add to a rows_descriptor for the next 16 rows.
constexpr uint64_t NEXT_16_ROWS = 16 * 128 >> 4;

// How B lies: [128, 16] with an operand_descriptor, or [16, 128] with a rows_descriptor.
enum class BOperand { COLUMNS = 0, ROWS = 1 };

// sums = A B, and + sums if `accumulate`, for N = 128.
template <BOperand B>
__device__ __forceinline__ void multiply_registers(float (&d)[64], const uint32_t (&a)[4],
                                                   uint64_t b, bool accumulate) {
    asm volatile("{\n"
                 ".reg .pred p;\n"
                 "setp.ne.b32 p, %69, 0;\n"
                 "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {"
                 "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15,"
                 "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31,"
                 "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47,"
                 "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63}, "
                 "{%64, %65, %66, %67}, %68, p, 1, 1, %70;\n"
                 "}"
                 : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]),
                   "+f"(d[6]), "+f"(d[7]), "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]),
                   "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]), "+f"(d[16]), "+f"(d[17]),
                   "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
                   "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]),
                   "+f"(d[30]), "+f"(d[31]), "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]),
                   "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]), "+f"(d[40]), "+f"(d[41]),
                   "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
                   "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]),
                   "+f"(d[54]), "+f"(d[55]), "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]),
                   "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b),
                   "r"(static_cast<int>(accumulate)), "n"(static_cast<int>(B))
                 : "memory");
}

} // namespace flux_rt
