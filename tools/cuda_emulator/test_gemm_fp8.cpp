#include "cuda_emulator.h"
#include "../../kernels/gemm_fp8_sm89.cu"
#include "ptx_bodies.h"
#include "check.h"
using flux_rt::e4m3_value;
using flux_rt::GemmFp8Params;

struct Case { int m, split, n, k, pad; bool bias, gate0, gate1, residual; int raster; };
using Kernel = void (*)(const GemmFp8Params);

static bool run(const char *name, Kernel kernel, int tm, int tn, int threads, int shared, bool gelu, const Case &c) {
    const int a_stride = c.k + 16 * c.pad, gap = 48 * c.pad, gap_at = c.k / 2 / 16 * 16, w_stride = c.k + gap + 32 * c.pad, o_stride = c.n + 16 * c.pad, r_stride = c.n + 24 * c.pad;
    const int gate_stride = 2 * c.n + 8, steps = 3;
    emulator::Guarded<uint8_t> a(size_t(c.m) * a_stride - 16 * c.pad), w0(size_t(c.n) * w_stride - 32 * c.pad), w1(size_t(c.n) * w_stride - 32 * c.pad);
    emulator::Guarded<uint8_t> narrow(size_t(c.m) * o_stride);
    emulator::Guarded<bf16> out(size_t(c.m) * o_stride), residual(size_t(c.m) * r_stride), table(size_t(steps) * gate_stride);
    emulator::Guarded<float> b0(c.n), b1(c.n), s0(c.n), s1(c.n), row_scale(c.m), units(c.n);
    emulator::Guarded<uint32_t> step(1);
    auto fill_matrix = [](uint8_t *p, int rows, int columns, int stride) { for (int r = 0; r < rows; ++r) fill_e4m3(p + size_t(r) * stride, columns); };
    fill_matrix(a.data(), c.m, c.k, a_stride); fill_matrix(w0.data(), c.n, c.k, w_stride); fill_matrix(w1.data(), c.n, c.k, w_stride);
    // Where rows are padded, W's have a gap: what lies in it is NaN.
    for (auto *w : {&w0, &w1}) for (int n = 0; n < c.n; ++n) {
        uint8_t *const at = w->data() + size_t(n) * w_stride + gap_at;
        memmove((void *)(at + gap), at, (c.k - gap_at) * sizeof *at);
        memset((void *)at, 0xff, gap * sizeof *at);
    }
    for (auto *x : {&b0, &b1, &s0, &s1, &row_scale}) fill(x->data(), x->count);
    fill(residual.data(), residual.count); fill(table.data(), table.count);
    for (int n = 0; n < c.n; ++n) units[n] = std::ldexp(1.0f, n % 5 - 3);
    step[0] = 2;
    GemmFp8Params p{};
    p.out = gelu ? (void *)narrow.data() : out.data(); p.a = a.data(); p.residual = c.residual && !gelu ? residual.data() : nullptr;
    p.weight[0] = w0.data(); p.weight[1] = w1.data(); p.weight_scale[0] = s0.data(); p.weight_scale[1] = s1.data(); p.row_scale = row_scale.data();
    p.bias[0] = c.bias ? b0.data() : nullptr; p.bias[1] = c.bias ? b1.data() : nullptr; p.units = gelu ? units.data() : nullptr;
    p.gate_table = table.data(); p.step = step.data(); p.rows = c.m; p.split = c.split; p.columns = c.n; p.k = c.k;
    p.out_stride = o_stride; p.a_stride = a_stride; p.residual_stride = r_stride; p.weight_stride = w_stride; p.gap_at = gap_at; p.gap = gap; p.gate_stride = gate_stride;
    const bool gate0 = c.gate0 && !gelu, gate1 = c.gate1 && !gelu;
    p.gate_column[0] = gate0 ? 8 : -1; p.gate_column[1] = gate1 ? c.n + 8 : -1; p.raster_rows = c.raster;
    auto up_ = [](int x, int y) { return (x + y - 1) / y; };
    const int grid = (up_(c.split, tm) + up_(c.m - c.split, tm)) * up_(c.n, tn);
    emulator::launch(dim3(grid), dim3(threads), shared, [&] { kernel(p); });

    Comparison comparison;
    for (int r = 0; r < c.m; ++r) for (int n = 0; n < o_stride; ++n) {
        const size_t at = size_t(r) * o_stride + n;
        uint16_t bits; memcpy(&bits, &out[at], 2);
        if (gelu || n >= c.n) { if (bits != 0xffff) emulator::fail("write into the gap of a row"); }
        if (!gelu || n >= c.n) { if (narrow[at] != 0xff) emulator::fail("write into the gap of a narrow row"); }
        if (n >= c.n) continue;
        const int s = r >= c.split;
        const uint8_t *w = (s ? w1 : w0).data() + size_t(n) * w_stride;
        double sum = 0;
        for (int k = 0; k < c.k; ++k) sum += double(e4m3_value(a[size_t(r) * a_stride + k])) * e4m3_value(w[k < gap_at ? k : k + gap]);
        double y = sum * row_scale[r] * (s ? s1 : s0)[n] + (c.bias ? (s ? b1 : b0)[n] : 0.0f);
        if (s ? gate1 : gate0) y *= up(table[size_t(2) * gate_stride + (s ? c.n + 8 : 8) + n]);
        if (p.residual) y += up(residual[size_t(r) * r_stride + n]);
        if (gelu) {
            y = 0.5 * y * (1 + std::tanh(0.7978845608 * (y + 0.044715 * y * y * y)));
            const double limited = std::fmin(std::fmax(y / units[n], -448.0), 448.0);
            // One rounding to three bits.
            comparison.add(e4m3_value(narrow[at]), limited, 16.3f, 1.0f / 32);
        } else {
            comparison.add(up(out[at]), y, 1.05f, 0.25f);
        }
    }
    char label[160];
    snprintf(label, sizeof label, "%s m=%d split=%d n=%d k=%d pad=%d b%d g%d%d r%d raster%d", name, c.m, c.split, c.n, c.k, c.pad, c.bias, c.gate0, c.gate1, c.residual, c.raster);
    return comparison.report(label);
}

int main(int argc, char **argv) {
    const Case cases[] = {
        {1, 1, 8, 16, 0, true, false, false, false, 1},
        {63, 63, 72, 48, 1, true, false, false, false, 4},
        {65, 0, 136, 96, 0, true, false, true, true, 3},
        {129, 65, 256, 128, 1, true, true, true, true, 2},
        {200, 71, 264, 208, 1, true, true, false, true, 1},
        {300, 128, 520, 336, 0, true, false, true, false, 12},
        {130, 1, 128, 1008, 1, false, true, true, true, 8},
    };
    struct Entry { const char *name; Kernel kernel; int tm, tn, threads, shared; bool gelu; };
#define E(t, tm, tn, th, sh) {"gemm_fp8_" #t "_row", gemm_fp8_sm89_##t##_row, tm, tn, th, sh, false}, {"gemm_fp8_" #t "_gelu", gemm_fp8_sm89_##t##_gelu, tm, tn, th, sh, true}
    const Entry entries[] = {E(64x64, 64, 64, 128, 65536), E(128x128, 128, 128, 128, 65536), E(128x256, 128, 256, 256, 98304)};
    if (argc > 2) { // TEST SEED COUNT: random shapes
        data_random.state = atoi(argv[1]) * 7919 + 1; auto r = [&](int n) { return int(data_random.below(n)); };
        int failed = 0;
        for (int i = 0; i < atoi(argv[2]); ++i) {
            const Entry &e = entries[r(6)]; const int m = 1 + r(290);
            const Case c{m, r(3) ? r(m + 1) : m, 8 + 8 * r(40), 16 + 16 * r(40), r(2), bool(r(2)), bool(r(2)), bool(r(2)), bool(r(2)), 1 + r(5)};
            emulator::scheduler_random.state = data_random.next();
            failed += !run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, e.gelu, c);
        }
        printf("%s\n", failed ? "FAILURES" : "ALL OK");
        return failed;
    }
    bool ok = true;
    int seed = 1;
    for (const Entry &e : entries) for (const Case &c : cases) {
        emulator::scheduler_random.state = ++seed;
        ok &= run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, e.gelu, c);
    }
    printf("mma %llu ldmatrix %llu conflicts %llu copies %llu\n%s\n", (unsigned long long)emulator::statistics.mma, (unsigned long long)emulator::statistics.ldmatrix,
           (unsigned long long)emulator::statistics.ldmatrix_conflicts, (unsigned long long)emulator::statistics.copies, ok ? "ALL OK" : "FAILURES");
    return !ok;
}
