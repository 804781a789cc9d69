#include "cuda_emulator.h"
#include "../../kernels/gemm_qkv_fp8_sm89.cu"
#include "ptx_bodies.h"
#include "check.h"
using flux_rt::e4m3_value;
using flux_rt::GemmQkvFp8Params;

struct Case { int rows, split, heads, dh, k, pad; bool bias; int raster; };
using Kernel = void (*)(const GemmQkvFp8Params);

static bool run(const char *name, Kernel kernel, int tm, int tn, int threads, int shared, const Case &c) {
    // Where rows are padded, W has more heads than the product takes.
    const int width = c.heads * c.dh, part_rows = width + 16 * c.pad, rows = 2 * part_rows + width, a_stride = c.k + 16 * c.pad, w_stride = c.k + 32 * c.pad;
    emulator::Guarded<uint8_t> a(size_t(c.rows) * a_stride), w0(size_t(rows) * w_stride), w1(size_t(rows) * w_stride);
    emulator::Guarded<bf16> qkv(size_t(c.rows) * 3 * width);
    emulator::Guarded<float> b0(3 * width), b1(3 * width), s0(rows), s1(rows), row_scale(c.rows), q0(c.dh), q1(c.dh), k0(c.dh), k1(c.dh), rope(size_t(c.rows) * c.dh);
    for (auto *x : {&a, &w0, &w1}) fill_e4m3(x->data(), x->count);
    for (auto *x : {&b0, &b1, &s0, &s1, &row_scale, &q0, &q1, &k0, &k1}) fill(x->data(), x->count);
    for (int r = 0; r < c.rows; ++r) for (int i = 0; i < c.dh / 2; ++i) {
        const float angle = 3 * data_random.uniform();
        rope[size_t(r) * c.dh + 2 * i] = std::cos(angle); rope[size_t(r) * c.dh + 2 * i + 1] = std::sin(angle);
    }
    GemmQkvFp8Params p{};
    p.qkv = qkv.data(); p.a = a.data(); p.weight[0] = w0.data(); p.weight[1] = w1.data(); p.row_scale = row_scale.data();
    p.weight_scale[0] = s0.data(); p.weight_scale[1] = s1.data(); p.bias[0] = c.bias ? b0.data() : nullptr; p.bias[1] = c.bias ? b1.data() : nullptr;
    p.q_norm[0] = q0.data(); p.q_norm[1] = q1.data(); p.k_norm[0] = k0.data(); p.k_norm[1] = k1.data(); p.rope = rope.data();
    p.rows = c.rows; p.split = c.split; p.k = c.k; p.a_stride = a_stride; p.weight_stride = w_stride; p.heads = c.heads; p.head_dim = c.dh;
    p.raster_rows = c.raster; p.eps = 1e-6f; p.part_rows = part_rows;
    auto tiles = [](int x, int y) { return (x + y - 1) / y; };
    const int grid = (tiles(c.split, tm) + tiles(c.rows - c.split, tm)) * 3 * tiles(width, tn);
    emulator::launch(dim3(grid), dim3(threads), shared, [&] { kernel(p); });
    qkv.check();

    Comparison comparison;
    std::vector<double> y(c.dh);
    for (int r = 0; r < c.rows; ++r) {
        const int s = r >= c.split;
        for (int part = 0; part < 3; ++part) for (int h = 0; h < c.heads; ++h) {
            double squares = 0;
            for (int d = 0; d < c.dh; ++d) {
                const int column = h * c.dh + d, row = part * part_rows + column;
                const uint8_t *w = (s ? w1 : w0).data() + size_t(row) * w_stride;
                double sum = 0;
                for (int k = 0; k < c.k; ++k) sum += double(e4m3_value(a[size_t(r) * a_stride + k])) * e4m3_value(w[k]);
                y[d] = sum * row_scale[r] * (s ? s1 : s0)[row] + (c.bias ? (s ? b1 : b0)[part * width + column] : 0.0f);
                squares += y[d] * y[d];
            }
            if (part < 2) {
                const double inverse = 1 / std::sqrt(squares / c.dh + 1e-6);
                const auto &norm = part == 0 ? (s ? q1 : q0) : (s ? k1 : k0);
                for (int d = 0; d < c.dh; ++d) y[d] *= inverse * norm[d];
                for (int d = 0; d < c.dh; d += 2) {
                    const double cos = rope[size_t(r) * c.dh + d], sin = rope[size_t(r) * c.dh + d + 1], e = y[d], o = y[d + 1];
                    y[d] = e * cos - o * sin; y[d + 1] = o * cos + e * sin;
                }
            }
            for (int d = 0; d < c.dh; ++d) comparison.add(up(qkv[(size_t(r) * 3 + part) * width + h * c.dh + d]), y[d], 1.05f, 0.25f);
        }
    }
    char label[160];
    snprintf(label, sizeof label, "%s rows=%d split=%d H=%d Dh=%d k=%d pad=%d b%d", name, c.rows, c.split, c.heads, c.dh, c.k, c.pad, c.bias);
    return comparison.report(label);
}

int main(int argc, char **argv) {
    const Case cases[] = {
        {1, 1, 1, 128, 16, 0, true, 1}, {70, 9, 2, 128, 96, 0, true, 1}, {130, 65, 3, 64, 208, 1, true, 2},
        {150, 40, 3, 128, 160, 1, false, 2}, {257, 129, 1, 128, 272, 0, true, 12}, {66, 0, 7, 16, 64, 0, true, 2},
    };
    struct Entry { const char *name; Kernel kernel; int tm, tn, threads, shared; };
    const Entry entries[] = {{"gemm_qkv_fp8_64x128", gemm_qkv_fp8_sm89_64x128, 64, 128, 128, 98304},
                             {"gemm_qkv_fp8_128x128", gemm_qkv_fp8_sm89_128x128, 128, 128, 128, 65536}, {"gemm_qkv_fp8_128x256", gemm_qkv_fp8_sm89_128x256, 128, 256, 256, 98304}};
    if (argc > 2) { // TEST SEED COUNT: random shapes
        data_random.state = atoi(argv[1]) * 7919 + 1; auto r = [&](int n) { return int(data_random.below(n)); };
        int failed = 0;
        for (int i = 0; i < atoi(argv[2]); ++i) {
            const Entry &e = entries[r(3)]; const int m = 1 + r(200);
            const Case c{m, r(3) ? r(m + 1) : m, 1 + r(4), 16 << r(4), 16 + 16 * r(20), r(2), bool(r(2)), 1 + r(5)};
            emulator::scheduler_random.state = data_random.next();
            failed += !run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, c);
        }
        printf("%s\n", failed ? "FAILURES" : "ALL OK");
        return failed;
    }
    bool ok = true;
    int seed = 100;
    for (const Entry &e : entries) for (const Case &c : cases) {
        emulator::scheduler_random.state = ++seed;
        ok &= run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, c);
    }
    printf("conflicts %llu\n%s\n", (unsigned long long)emulator::statistics.ldmatrix_conflicts, ok ? "ALL OK" : "FAILURES");
    return !ok;
}
