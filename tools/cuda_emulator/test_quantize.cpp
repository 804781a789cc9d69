#define EMULATE_WITHOUT_SHARED_MEMORY
#define EMULATE_WITHOUT_CP_ASYNC
#define EMULATE_WITHOUT_MMA
#include "cuda_emulator.h"
#include "../../kernels/quantize.cu"
#include "ptx_bodies.h"
#include "check.h"
using namespace flux_rt;

// Rows `stride` apart; columns beyond `columns` are nobody's.
struct Case { int rows, columns, stride; float amplitude; };

static float number(uint8_t byte) {
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    const double size = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    return float(byte & 0x80 ? -size : size);
}

// The nearest number by trying all; of two as near the even one.
static uint8_t nearest(float x) {
    uint8_t best = 0;
    double least = 1e300;
    for (int byte = 0; byte < 127; ++byte) {
        const double distance = std::fabs(double(number(uint8_t(byte))) - std::fabs(double(x)));
        if (distance < least || (distance == least && byte % 2 == 0)) { least = distance; best = uint8_t(byte); }
    }
    return uint8_t(best | (std::signbit(x) ? 0x80 : 0));
}

static bool run(const Case &c, bool by_block) {
    const size_t count = size_t(c.rows - 1) * c.stride + c.columns;
    const int width = by_block ? 128 : c.columns, blocks = (c.columns + width - 1) / width, scales_stride = c.rows + 3;
    emulator::Guarded<bf16> x(count);
    emulator::Guarded<uint8_t> values(count);
    emulator::Guarded<float> scales(size_t(blocks - 1) * scales_stride + c.rows);
    fill(x.data(), count, c.amplitude);
    QuantizeParams p{};
    p.values = values.data(); p.scales = scales.data(); p.x = x.data(); p.rows = c.rows; p.columns = c.columns;
    p.values_stride = p.x_stride = c.stride; p.scales_stride = scales_stride;
    emulator::launch(dim3(c.rows), dim3(QUANTIZE_THREADS), 0, [&] { by_block ? quantize_block(p) : quantize_row(p); });
    size_t wrong = 0;
    for (int row = 0; row < c.rows; ++row) for (int block = 0; block < blocks; ++block) {
        float most = 0;
        const int end = std::min(c.columns, (block + 1) * width);
        for (int i = block * width; i < end; ++i) most = std::fmax(most, std::fabs(up(x[size_t(row) * c.stride + i])));
        const float scale = scales[size_t(block) * scales_stride + row];
        wrong += scale != std::fmax(most, 1e-12f) / 448.0f;
        for (int i = block * width; i < end; ++i) {
            const size_t index = size_t(row) * c.stride + i;
            wrong += values[index] != nearest(up(x[index]) / scale);
        }
    }
    printf("quantize_%s %dx%d stride %d amplitude %g: %zu wrong\n", by_block ? "block" : "row", c.rows, c.columns, c.stride, c.amplitude, wrong);
    return wrong == 0;
}

int main() {
    const Case cases[] = {{1, 1, 1, 1}, {3, 127, 127, 1}, {2, 128, 136, 3e4f}, {5, 129, 129, 1e-20f}, {2, 1000, 1003, 1}, {1, 3072, 3072, 100}, {3, 300, 300, 0}};
    bool ok = true;
    for (const Case &c : cases) for (bool by_block : {false, true}) ok &= run(c, by_block);
    printf("%s\n", ok ? "ALL OK" : "FAILURES");
    return !ok;
}
