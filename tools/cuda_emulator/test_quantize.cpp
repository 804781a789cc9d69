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

static bool run(const Case &c, bool in_units, bool has_units) {
    const size_t count = size_t(c.rows - 1) * c.stride + c.columns;
    emulator::Guarded<bf16> x(count);
    emulator::Guarded<uint8_t> values(count);
    emulator::Guarded<float> scales(c.rows), units(c.columns);
    fill(x.data(), count, c.amplitude);
    for (int i = 0; i < c.columns; ++i) units[i] = std::ldexp(1.0f, i % 7 - 3);
    QuantizeParams p{};
    p.values = values.data(); p.scales = in_units ? nullptr : scales.data(); p.x = x.data(); p.units = has_units ? units.data() : nullptr;
    p.rows = c.rows; p.columns = c.columns; p.values_stride = p.x_stride = c.stride;
    emulator::launch(dim3(c.rows), dim3(QUANTIZE_THREADS), 0, [&] { in_units ? quantize_units(p) : quantize_row(p); });
    size_t wrong = 0;
    for (int row = 0; row < c.rows; ++row) {
        float most = 0;
        const auto divided = [&](int i) { return up(x[size_t(row) * c.stride + i]) / (has_units ? units[i] : 1.0f); };
        for (int i = 0; i < c.columns; ++i) most = std::fmax(most, std::fabs(divided(i)));
        const float scale = in_units ? 1.0f : std::fmax(most, 1e-12f) / 448.0f;
        wrong += !in_units && scales[row] != scale;
        for (int i = 0; i < c.columns; ++i)
            wrong += values[size_t(row) * c.stride + i] != nearest(std::fmin(std::fmax(divided(i) / scale, -448.0f), 448.0f));
    }
    printf("quantize_%s %dx%d stride %d amplitude %g units %d: %zu wrong\n", in_units ? "units" : "row", c.rows, c.columns, c.stride, c.amplitude, has_units, wrong);
    return wrong == 0;
}

int main() {
    const Case cases[] = {{1, 1, 1, 1}, {3, 127, 127, 1}, {2, 128, 136, 3e4f}, {5, 129, 129, 1e-20f}, {2, 1000, 1003, 1}, {1, 3072, 3072, 100}, {3, 300, 300, 0}};
    bool ok = true;
    for (const Case &c : cases) for (bool in_units : {false, true}) for (bool has_units : {false, true}) ok &= run(c, in_units, has_units);
    printf("%s\n", ok ? "ALL OK" : "FAILURES");
    return !ok;
}
