#include "cuda_emulator.h"
#include "../../kernels/gemm.cu"
#include "ptx_bodies.h"
#include "check.h"
using flux_rt::GemmParams;

struct Case { int m, split, n, k, pad; bool bias, gate0, gate1, residual; int round, raster; };
using Kernel = void (*)(const GemmParams);

static float act(int a, float x, bool round) {
    switch (a) {
    case 1: return x / (1 + std::exp(-x));
    case 2: return 0.5f * x * (1 + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)));
    case 3: return round ? x * rb(1 / (1 + std::exp(-rb(1.702f * x)))) : x / (1 + std::exp(-1.702f * x));
    default: return x;
    }
}

// In `activation`: the entry that writes the difference from an earlier tensor as well.
constexpr int DIFFERENCE = 4;

static bool run(const char *name, Kernel kernel, int tm, int tn, int threads, int shared, int activation, const Case &c) {
    const int a_stride = c.k + 8 * c.pad, gap = 24 * c.pad, gap_at = c.k / 2 / 8 * 8, w_stride = c.k + gap + 16 * c.pad, o_stride = c.n + 8 * c.pad, r_stride = c.n + 24 * c.pad;
    const int gate_stride = 2 * c.n + 8, steps = 3;
    emulator::Guarded<bf16> a(size_t(c.m) * a_stride - 8 * c.pad), w0(size_t(c.n) * w_stride - 16 * c.pad), w1(size_t(c.n) * w_stride - 16 * c.pad);
    emulator::Guarded<bf16> out(size_t(c.m) * o_stride), residual(size_t(c.m) * r_stride), table(size_t(steps) * gate_stride);
    const int d_stride = c.n + 32 * c.pad, f_stride = c.n + 16 * c.pad;
    emulator::Guarded<bf16> difference(size_t(c.m) * d_stride), from(size_t(c.m) * f_stride);
    emulator::Guarded<float> b0(c.n), b1(c.n);
    emulator::Guarded<uint32_t> step(1);
    auto fill_matrix = [](bf16 *p, int rows, int columns, int stride) { for (int r = 0; r < rows; ++r) fill(p + size_t(r) * stride, columns); };
    fill_matrix(a.data(), c.m, c.k, a_stride); fill_matrix(w0.data(), c.n, c.k, w_stride); fill_matrix(w1.data(), c.n, c.k, w_stride);
    // Where rows are padded, W's have a gap: what lies in it is NaN.
    for (auto *w : {&w0, &w1}) for (int n = 0; n < c.n; ++n) {
        bf16 *const at = w->data() + size_t(n) * w_stride + gap_at;
        memmove((void *)(at + gap), at, (c.k - gap_at) * sizeof *at);
        memset((void *)at, 0xff, gap * sizeof *at);
    }
    fill(b0.data(), c.n); fill(b1.data(), c.n); fill(residual.data(), residual.count); fill(table.data(), table.count);
    fill(from.data(), from.count);
    step[0] = 2;
    GemmParams p{};
    p.out = out.data(); p.a = a.data(); p.residual = c.residual ? residual.data() : nullptr;
    p.weight[0] = w0.data(); p.weight[1] = w1.data(); p.bias[0] = c.bias ? b0.data() : nullptr; p.bias[1] = c.bias ? b1.data() : nullptr;
    p.gate_table = table.data(); p.step = step.data(); p.rows = c.m; p.split = c.split; p.columns = c.n; p.k = c.k;
    p.out_stride = o_stride; p.a_stride = a_stride; p.residual_stride = r_stride; p.weight_stride = w_stride; p.gap_at = gap_at; p.gap = gap; p.gate_stride = gate_stride;
    p.gate_column[0] = c.gate0 ? 8 : -1; p.gate_column[1] = c.gate1 ? c.n + 8 : -1;
    p.raster_rows = c.raster; p.round_like_diffusers = c.round;
    if (activation == DIFFERENCE) { p.difference = difference.data(); p.difference_stride = d_stride; p.from = from.data(); p.from_stride = f_stride; }
    auto up_ = [](int x, int y) { return (x + y - 1) / y; };
    const int grid = (up_(c.split, tm) + up_(c.m - c.split, tm)) * up_(c.n, tn);
    emulator::launch(dim3(grid), dim3(threads), shared, [&] { kernel(p); });

    Comparison comparison;
    for (int r = 0; r < c.m; ++r) for (int n = 0; n < o_stride; ++n) {
        uint16_t bits; memcpy(&bits, &out[size_t(r) * o_stride + n], 2);
        if (n >= c.n) { if (bits != 0xffff) emulator::fail("write into the gap of a row"); continue; }
        const int s = r >= c.split;
        const bf16 *w = (s ? w1 : w0).data() + size_t(n) * w_stride;
        double sum = 0;
        for (int k = 0; k < c.k; ++k) sum += double(up(a[size_t(r) * a_stride + k])) * up(w[k < gap_at ? k : k + gap]);
        float y = float(sum) + (c.bias ? (s ? b1 : b0)[n] : 0.0f);
        auto round = [&](float x) { return c.round ? rb(x) : x; };
        y = round(y);
        if (s ? c.gate1 : c.gate0) y = round(y * up(table[size_t(2) * gate_stride + (s ? c.n + 8 : 8) + n]));
        if (c.residual) y = round(y + up(residual[size_t(r) * r_stride + n]));
        y = act(activation, y, c.round);
        // One rounding: half a step of 2^-8 each; with intermediate roundings, a tie may fall the other way.
        comparison.add(up(out[size_t(r) * o_stride + n]), c.round ? rb(y) : y, c.round ? 4.0f : 1.01f, 0.25f);
    }
    // Of the output as it is stored: one rounding, nothing else.
    for (int r = 0; r < c.m; ++r) for (int n = 0; n < d_stride; ++n) {
        uint16_t bits, expected = 0xffff; memcpy(&bits, &difference[size_t(r) * d_stride + n], 2);
        if (activation == DIFFERENCE && n < c.n) {
            const bf16 change = __float2bfloat16_rn(up(out[size_t(r) * o_stride + n]) - up(from[size_t(r) * f_stride + n]));
            memcpy(&expected, &change, 2);
        }
        if (bits != expected) emulator::fail("%s: difference of row %d, column %d of m=%d n=%d", name, r, n, c.m, c.n);
    }
    char label[160];
    snprintf(label, sizeof label, "%s m=%d split=%d n=%d k=%d pad=%d b%d g%d%d r%d round%d raster%d", name, c.m, c.split, c.n, c.k, c.pad, c.bias, c.gate0, c.gate1, c.residual, c.round, c.raster);
    return comparison.report(label);
}

int main(int argc, char **argv) {
    bool ok = true;
    const Case cases[] = {
        {1, 1, 8, 8, 0, true, false, false, false, 0, 1},
        {63, 63, 72, 40, 1, true, false, false, false, 0, 4},
        {64, 64, 64, 64, 0, false, false, false, true, 0, 2},
        {65, 0, 136, 96, 0, true, false, true, true, 0, 3},
        {129, 65, 256, 128, 1, true, true, true, true, 0, 2},
        {200, 71, 264, 200, 1, true, true, false, true, 1, 1},
        {300, 128, 520, 328, 0, true, false, true, false, 1, 12},
        {130, 1, 128, 1000, 1, true, true, true, true, 1, 8},
        {257, 257, 392, 24, 0, false, true, false, true, 0, 16},
    };
    struct Entry { const char *name; Kernel kernel; int tm, tn, threads, shared, activation; };
#define D(t, tm, tn, th, sh) {"gemm_" #t "_difference", gemm_##t##_difference, tm, tn, th, sh, DIFFERENCE}
#define E(t, tm, tn, th, sh) {"gemm_" #t "_none", gemm_##t##_none, tm, tn, th, sh, 0}, {"gemm_" #t "_silu", gemm_##t##_silu, tm, tn, th, sh, 1}, \
    {"gemm_" #t "_gelu_tanh", gemm_##t##_gelu_tanh, tm, tn, th, sh, 2}, {"gemm_" #t "_quick_gelu", gemm_##t##_quick_gelu, tm, tn, th, sh, 3}
#define F(t, tm, tn, th, sh) {"gemm_" #t "_none", gemm_##t##_none, tm, tn, th, sh, 0}, {"gemm_" #t "_gelu_tanh", gemm_##t##_gelu_tanh, tm, tn, th, sh, 2}
    const Entry entries[] = {E(64x64, 64, 64, 128, 65536), F(128x128, 128, 128, 128, 65536), F(128x256, 128, 256, 256, 98304),
                             D(64x64, 64, 64, 128, 65536), D(128x128, 128, 128, 128, 65536), D(128x256, 128, 256, 256, 98304)};
    if (argc > 2) { // TEST SEED COUNT: random shapes
        data_random.state = atoi(argv[1]) * 7919 + 1; auto r = [&](int n) { return int(data_random.below(n)); };
        int failed = 0;
        for (int i = 0; i < atoi(argv[2]); ++i) {
            const Entry &e = entries[r(11)]; const int m = 1 + r(290);
            const Case c{m, r(3) ? r(m + 1) : m, 8 + 8 * r(40), 8 + 8 * r(70), r(2), bool(r(2)), bool(r(2)), bool(r(2)), bool(r(2)), r(2), 1 + r(5)};
            emulator::scheduler_random.state = data_random.next();
            failed += !run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, e.activation, c);
        }
        printf("%s\n", failed ? "FAILURES" : "ALL OK");
        return failed;
    }
    int seed = 1;
    for (const Entry &e : entries) for (const Case &c : cases) {
        if (e.activation == DIFFERENCE ? &c - cases < 3 : e.activation && &c - cases != 4 && &c - cases != 5) continue;
        emulator::scheduler_random.state = ++seed;
        ok &= run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, e.activation, c);
    }
    printf("mma %llu ldmatrix %llu conflicts %llu copies %llu\n%s\n", (unsigned long long)emulator::statistics.mma, (unsigned long long)emulator::statistics.ldmatrix,
           (unsigned long long)emulator::statistics.ldmatrix_conflicts, (unsigned long long)emulator::statistics.copies, ok ? "ALL OK" : "FAILURES");
    return !ok;
}
