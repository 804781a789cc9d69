#define EMULATE_WITHOUT_SHARED_MEMORY
#define EMULATE_WITHOUT_CP_ASYNC
#define EMULATE_WITHOUT_MMA
#include "cuda_emulator.h"
#include "../../kernels/layernorm.cu"
#include "../../kernels/layernorm_modulate.cu"
#include "../../kernels/rmsnorm.cu"
#include "ptx_bodies.h"
#include "check.h"
using namespace flux_rt;

// Rows `stride` apart, columns beyond `columns` are nobody's; `split` rows have vectors of their own.
struct Case { int rows, columns, stride, split, round; };

// (x - mean) / sqrt(variance + eps) of one element, mean 0 where not centred.
static double normalized(const bf16 *row, int columns, int column, bool centered, double eps) {
    double mean = 0, square = 0;
    for (int i = 0; i < columns; ++i) mean += up(row[i]);
    mean = centered ? mean / columns : 0;
    for (int i = 0; i < columns; ++i) square += (up(row[i]) - mean) * (up(row[i]) - mean);
    return (up(row[column]) - mean) / std::sqrt(square / columns + eps);
}

// What a byte of e4m3 is.
static float number(uint8_t byte) {
    const int exponent = byte >> 3 & 15, mantissa = byte & 7;
    const double size = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(8 + mantissa, exponent - 10);
    return float(byte & 0x80 ? -size : size);
}

static bool run(const Case &c) {
    const size_t count = size_t(c.rows - 1) * c.stride + c.columns;
    const int table_stride = 4 * c.stride;
    emulator::Guarded<bf16> x(count), modulated(count), normed(count), scaled(count), table(size_t(3) * table_stride);
    emulator::Guarded<float> weight(c.columns), bias(c.columns);
    emulator::Guarded<uint32_t> step(1);
    fill(x.data(), count, 2.0f); fill(table.data(), table.count); fill(weight.data(), c.columns); fill(bias.data(), c.columns);
    step[0] = 2;
    LayernormModulateParams m{};
    m.out = modulated.data(); m.x = x.data(); m.table = table.data(); m.step = step.data(); m.rows = c.rows; m.split = c.split; m.columns = c.columns;
    m.out_stride = m.x_stride = c.stride; m.table_stride = table_stride; m.eps = 1e-6f; m.round_like_diffusers = c.round;
    for (int i = 0; i < 2; ++i) { m.shift_column[i] = 2 * i * c.stride; m.scale_column[i] = (2 * i + 1) * c.stride; }
    emulator::launch(dim3(c.rows), dim3(ROW_THREADS), 0, [&] { layernorm_modulate(m); });
    emulator::Guarded<uint8_t> values(count);
    emulator::Guarded<float> scales(c.rows);
    m.out = values.data(); m.scales = scales.data();
    emulator::launch(dim3(c.rows), dim3(ROW_THREADS), 0, [&] { layernorm_modulate_fp8(m); });
    LayernormParams n{};
    n.out = normed.data(); n.x = x.data(); n.weight = weight.data(); n.bias = bias.data(); n.rows = c.rows; n.columns = c.columns;
    n.out_stride = n.x_stride = c.stride; n.eps = 1e-5f;
    emulator::launch(dim3(c.rows), dim3(ROW_THREADS), 0, [&] { layernorm(n); });
    RmsnormParams r{};
    r.out = scaled.data(); r.x = x.data(); r.weight = weight.data(); r.rows = c.rows; r.columns = c.columns; r.out_stride = r.x_stride = c.stride;
    r.eps = 1e-6f; r.round_like_diffusers = c.round;
    emulator::launch(dim3(c.rows), dim3(512), 0, [&] { rmsnorm(r); });

    Comparison with_modulation, quantized, affine, root;
    auto round = [&](double value) { return c.round ? rb(float(value)) : float(value); };
    for (int row = 0; row < c.rows; ++row) for (int column = 0; column < c.columns; column += 1 + c.columns / 40) {
        const bf16 *from = x.data() + size_t(row) * c.stride;
        const size_t index = size_t(row) * c.stride + column;
        const int segment = row < c.split ? 0 : 1;
        const bf16 *vectors = table.data() + size_t(2) * table_stride + 2 * segment * c.stride + column;
        const float shift = up(vectors[0]), scale = up(vectors[c.stride]);
        const float product = round(round(normalized(from, c.columns, column, true, 1e-6)) * round(1.0f + scale));
        with_modulation.add(up(modulated[index]), product + shift, c.round ? 4.0f : 1.1f, 0.25f);
        // Half a step of e4m3 is 2^-4 of a number, a step of bf16 2^-8; below 2^-6 of the largest steps stay alike.
        quantized.add(number(values[index]) * scales[row], product + shift, 16.1f, scales[row] / 64);
        affine.add(up(normed[index]), float(normalized(from, c.columns, column, true, 1e-5) * weight[column] + bias[column]), 1.1f, 0.25f);
        root.add(up(scaled[index]), round(normalized(from, c.columns, column, false, 1e-6)) * weight[column], c.round ? 4.0f : 1.1f, 0.25f);
    }
    char label[160];
    bool ok = true;
    snprintf(label, sizeof label, "layernorm_modulate %dx%d stride %d split %d round%d", c.rows, c.columns, c.stride, c.split, c.round);
    ok &= with_modulation.report(label);
    snprintf(label, sizeof label, "layernorm_modulate_fp8 %dx%d stride %d split %d round%d", c.rows, c.columns, c.stride, c.split, c.round);
    ok &= quantized.report(label);
    snprintf(label, sizeof label, "layernorm %dx%d stride %d", c.rows, c.columns, c.stride);
    ok &= affine.report(label);
    snprintf(label, sizeof label, "rmsnorm %dx%d stride %d round%d", c.rows, c.columns, c.stride, c.round);
    return ok & root.report(label);
}

int main(int argc, char **argv) {
    const Case cases[] = {
        {3, 3072, 3072, 2, 0}, {3, 3072, 3080, 1, 1}, {2, 4096, 4096, 0, 0}, {2, 4104, 4104, 1, 0}, {2, 768, 776, 2, 0}, {5, 192, 192, 3, 1}, {4, 8, 8, 2, 0},
        {2, 1, 1, 1, 0},       {3, 7, 9, 1, 0},       {2, 33, 40, 1, 1},     {2, 1032, 1035, 1, 0}, {1, 136, 136, 0, 0}, {2, 4099, 4099, 1, 0},
    };
    bool ok = true;
    int seed = 400;
    for (const Case &c : cases) { emulator::scheduler_random.state = ++seed; ok &= run(c); }
    printf("%s\n", ok ? "ALL OK" : "FAILURES");
    return !ok;
}
