#define EMULATE_WITHOUT_SHARED_MEMORY
#define EMULATE_WITHOUT_CP_ASYNC
#define EMULATE_WITHOUT_MMA
#include "cuda_emulator.h"
#include "../../kernels/groupnorm_silu.cu"
#include "ptx_bodies.h"
#include "check.h"
using flux_rt::GroupnormSiluParams;

// `mean` far from 0 shows whether sums of squares cancel.
struct Case { int pixels, channels, groups, pixels_per_block, silu, round; float mean; };

static bool run(const Case &c) {
    const size_t count = size_t(c.pixels) * c.channels;
    const int blocks = (c.pixels + c.pixels_per_block - 1) / c.pixels_per_block, size = c.channels / c.groups;
    emulator::Guarded<bf16> x(count), out(count);
    emulator::Guarded<float> weight(c.channels), bias(c.channels), affine(2 * c.channels);
    emulator::Guarded<double> partial(size_t(2) * blocks * c.groups);
    fill(x.data(), count, 2.0f); fill(weight.data(), c.channels); fill(bias.data(), c.channels);
    for (size_t i = 0; i < count; ++i) x[i] = __float2bfloat16_rn(up(x[i]) + c.mean);
    GroupnormSiluParams p{};
    p.out = out.data(); p.x = x.data(); p.weight = weight.data(); p.bias = bias.data();
    p.partial = partial.data(); p.affine = affine.data();
    p.pixels = c.pixels; p.channels = c.channels; p.groups = c.groups; p.pixels_per_block = c.pixels_per_block;
    p.eps = 1e-6f; p.silu = c.silu; p.round_like_diffusers = c.round;
    emulator::launch(dim3(blocks), dim3(256), 0, [&] { groupnorm_silu_partial(p); });
    emulator::launch(dim3(c.groups), dim3(256), 0, [&] { groupnorm_silu_combine(p); });
    emulator::launch(dim3(blocks), dim3(256), 0, [&] { groupnorm_silu_apply(p); });
    Comparison comparison;
    for (int group = 0; group < c.groups; ++group) {
        double sum = 0, square = 0;
        auto each = [&](auto visit) {
            for (int pixel = 0; pixel < c.pixels; ++pixel) for (int i = 0; i < size; ++i) visit(size_t(pixel) * c.channels + group * size + i, group * size + i);
        };
        each([&](size_t index, int) { sum += up(x[index]); });
        double mean = sum / (double(c.pixels) * size);
        each([&](size_t index, int) { square += (up(x[index]) - mean) * (up(x[index]) - mean); });
        double inverse = 1.0 / std::sqrt(square / (double(c.pixels) * size) + 1e-6);
        if (c.round) { mean = rb(float(mean)); inverse = rb(float(inverse)); }
        each([&](size_t index, int channel) {
            float y = float((up(x[index]) - mean) * inverse * weight[channel] + bias[channel]);
            if (c.round) y = rb(y);
            // A rounding on the way moves the result by a step, at most three where SiLU follows.
            comparison.add(up(out[index]), c.silu ? y / (1.0f + std::exp(-y)) : y, c.round ? 4.0f : 1.1f, 0.25f);
        });
    }
    char label[160];
    snprintf(label, sizeof label, "groupnorm_silu %d pixels, %d channels, %d groups, %d a block, silu%d round%d mean %g", c.pixels, c.channels, c.groups,
             c.pixels_per_block, c.silu, c.round, c.mean);
    return comparison.report(label);
}

int main(int argc, char **argv) {
    const Case cases[] = {
        {77, 512, 32, 32, 1, 0, 0},  {64, 512, 32, 16, 0, 0, 30}, {100, 256, 32, 64, 1, 0, 3}, {65, 128, 32, 128, 1, 0, 0}, {33, 64, 16, 40, 1, 1, 0},
        {50, 32, 16, 20, 1, 0, -1},  {20, 96, 16, 12, 1, 0, 0},   {31, 1024, 32, 7, 0, 0, 0},  {9, 8, 8, 3, 1, 0, 0},       {9, 8, 1, 3, 1, 1, 0},
        {40, 40, 5, 9, 1, 0, 3},     {30, 24, 6, 8, 1, 0, 0},     {70, 7, 7, 9, 1, 0, 0},      {23, 9, 3, 5, 0, 0, 30},     {1, 16, 2, 4, 1, 0, 0},
        {300, 256, 32, 37, 1, 1, 0}, {128, 512, 32, 128, 1, 0, 0}, {5, 250, 10, 2, 1, 0, 0},
    };
    bool ok = true;
    int seed = 300;
    for (const Case &c : cases) { emulator::scheduler_random.state = ++seed; ok &= run(c); }
    printf("%s\n", ok ? "ALL OK" : "FAILURES");
    return !ok;
}
