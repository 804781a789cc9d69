#include "cuda_emulator.h"
#include "../../kernels/conv2d.cu"
#include "ptx_bodies.h"
#include "check.h"
using flux_rt::Conv2dParams;

struct Case { int h, w, cin, cout, kernel, stride; bool bias, residual; int round, raster; };
using Kernel = void (*)(const Conv2dParams);

static bool run(const char *name, Kernel kernel, int tm, int tn, int threads, int shared, const Case &c) {
    const int oh = c.h / c.stride, ow = c.w / c.stride;
    const int pad = c.stride == 2 ? 0 : c.kernel / 2, k = c.kernel * c.kernel * c.cin;
    emulator::Guarded<bf16> x(size_t(c.h) * c.w * c.cin), weight(size_t(c.cout) * k), out(size_t(oh) * ow * c.cout), residual(out.count);
    emulator::Guarded<float> bias(c.cout);
    fill(x.data(), x.count); fill(weight.data(), weight.count); fill(residual.data(), residual.count); fill(bias.data(), bias.count);
    Conv2dParams p{};
    p.out = out.data(); p.x = x.data(); p.weight = weight.data(); p.bias = c.bias ? bias.data() : nullptr; p.residual = c.residual ? residual.data() : nullptr;
    p.in_height = c.h; p.in_width = c.w; p.in_channels = c.cin; p.out_height = oh; p.out_width = ow; p.out_channels = c.cout;
    p.kernel = c.kernel; p.stride = c.stride; p.padding = pad; p.raster_rows = c.raster; p.round_like_diffusers = c.round;
    auto tiles = [](int a, int b) { return (a + b - 1) / b; };
    emulator::launch(dim3(tiles(oh * ow, tm) * tiles(c.cout, tn)), dim3(threads), shared, [&] { kernel(p); });
    Comparison comparison;
    auto round = [&](float v) { return c.round ? rb(v) : v; };
    for (int oy = 0; oy < oh; ++oy) for (int ox = 0; ox < ow; ++ox) for (int n = 0; n < c.cout; ++n) {
        double sum = 0;
        for (int dy = 0; dy < c.kernel; ++dy) for (int dx = 0; dx < c.kernel; ++dx) {
            const int y = oy * c.stride + dy - pad, xx = ox * c.stride + dx - pad;
            if (y < 0 || xx < 0 || y >= c.h || xx >= c.w) continue;
            const bf16 *pixel = x.data() + (size_t(y) * c.w + xx) * c.cin;
            const bf16 *w = weight.data() + ((size_t(n) * c.kernel + dy) * c.kernel + dx) * c.cin;
            for (int i = 0; i < c.cin; ++i) sum += double(up(pixel[i])) * up(w[i]);
        }
        float y = round(float(sum));
        // A sum so near to the middle of two bf16 numbers that its order decides: a step of its own
        // size, however much of it the residual takes away.
        const float size = c.round ? std::fabs(y) : 0.0f;
        if (c.bias) y = round(y + bias[n]);
        const size_t index = (size_t(oy) * ow + ox) * c.cout + n;
        if (c.residual) y = y + up(residual[index]);
        comparison.add(up(out[index]), round(y), c.round ? 4.0f : 1.02f, std::fmax(size, 0.25f));
    }
    char label[160];
    snprintf(label, sizeof label, "%s %dx%dx%d -> %d k%d s%d b%d r%d round%d", name, c.h, c.w, c.cin, c.cout, c.kernel, c.stride, c.bias, c.residual, c.round);
    return comparison.report(label);
}

int main(int argc, char **argv) {
    const Case cases[] = {
        {1, 1, 8, 8, 1, 1, true, false, 0, 1},   {1, 1, 8, 8, 3, 1, true, false, 0, 1},   {9, 13, 16, 24, 3, 1, true, true, 0, 2},
        {12, 11, 72, 136, 3, 1, true, true, 1, 1}, {16, 8, 64, 64, 3, 1, true, true, 0, 4}, {7, 9, 40, 3, 3, 1, true, false, 1, 1},
        {8, 10, 24, 13, 3, 1, true, true, 0, 1},  {14, 18, 24, 40, 3, 2, true, false, 0, 2}, {13, 9, 16, 8, 3, 2, true, false, 0, 2},
        {6, 7, 32, 264, 3, 1, true, false, 0, 2},  {11, 12, 96, 72, 1, 1, true, true, 1, 2},  {5, 5, 8, 16, 5, 1, false, false, 0, 1},
        {9, 6, 32, 16, 1, 1, true, false, 1, 1},
    };
    const Case odd[] = {{9, 13, 3, 24, 3, 1, true, false, 0, 2}, {8, 8, 3, 128, 3, 1, true, false, 1, 1}, {7, 9, 13, 3, 3, 1, true, true, 0, 1},
                        {10, 8, 5, 7, 3, 2, true, false, 0, 1},  {4, 5, 1, 1, 1, 1, true, false, 0, 1},   {4, 5, 12, 9, 3, 1, false, true, 1, 1}};
    struct Entry { const char *name; Kernel kernel; int tm, tn, threads, shared; };
    const Entry entries[] = {{"conv2d_64x64", conv2d_64x64, 64, 64, 128, 65536}, {"conv2d_128x128", conv2d_128x128, 128, 128, 128, 65536},
                             {"conv2d_128x256", conv2d_128x256, 128, 256, 256, 98304}, {"conv2d_64x64_scalar", conv2d_64x64_scalar, 64, 64, 128, 65536}};
    if (argc > 2) { // TEST SEED COUNT: random shapes
        data_random.state = atoi(argv[1]) * 7919 + 1; auto r = [&](int n) { return int(data_random.below(n)); };
        int failed = 0;
        for (int i = 0; i < atoi(argv[2]); ++i) {
            const Entry &e = entries[r(4)]; const int stride = 1 + r(2), cin = e.kernel == conv2d_64x64_scalar ? 1 + r(40) : 8 + 8 * r(12);
            const Case c{2 + r(15), 2 + r(15), cin, r(2) ? 8 + 8 * r(36) : 1 + r(40), stride == 2 ? 3 : 1 + 2 * r(2), stride, bool(r(2)), bool(r(2)), r(2), 1 + r(4)};
            emulator::scheduler_random.state = data_random.next();
            failed += !run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, c);
        }
        printf("%s\n", failed ? "FAILURES" : "ALL OK");
        return failed;
    }
    bool ok = true;
    int seed = 200;
    for (const Entry &e : entries) {
        for (const Case &c : cases) { emulator::scheduler_random.state = ++seed; ok &= run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, c); }
        if (e.kernel == conv2d_64x64_scalar) for (const Case &c : odd) { emulator::scheduler_random.state = ++seed; ok &= run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, c); }
    }
    printf("conflicts %llu\n%s\n", (unsigned long long)emulator::statistics.ldmatrix_conflicts, ok ? "ALL OK" : "FAILURES");
    return !ok;
}
