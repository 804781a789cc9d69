#include "cuda_emulator.h"
#include "../../kernels/gemm_qkv.cu"
#include "ptx_bodies.h"
#include "check.h"
using flux_rt::GemmQkvParams;

struct Case { int rows, split, heads, dh, mlp, k, pad; bool bias; int shuffled, round, raster; };
using Kernel = void (*)(const GemmQkvParams);

static bool run(const char *name, Kernel kernel, int tm, int tn, int threads, int shared, const Case &c) {
    const int width = c.heads * c.dh, gap = c.shuffled ? 8 : 0;
    // Parts of W's rows, with gaps between them when shuffled.
    const int part_row[4] = {gap, 2 * gap + width, 3 * gap + 2 * width, 4 * gap + 3 * width};
    const int w_rows = part_row[3] + c.mlp, a_stride = c.k + 8 * c.pad, w_stride = c.k + 8 * c.pad, m_stride = c.mlp + 16 * c.pad;
    emulator::Guarded<bf16> a(size_t(c.rows) * a_stride), w0(size_t(w_rows) * w_stride), w1(size_t(w_rows) * w_stride);
    emulator::Guarded<bf16> qkv(size_t(c.rows) * 3 * width), mlp(size_t(c.rows) * m_stride + 8);
    // Biases have no gaps.
    emulator::Guarded<float> b0(3 * width + c.mlp), b1(3 * width + c.mlp), q0(c.dh), q1(c.dh), k0(c.dh), k1(c.dh), rope(size_t(c.rows) * c.dh);
    fill(a.data(), a.count); fill(w0.data(), w0.count); fill(w1.data(), w1.count);
    for (auto *b : {&b0, &b1, &q0, &q1, &k0, &k1}) fill(b->data(), b->count);
    for (int r = 0; r < c.rows; ++r) for (int i = 0; i < c.dh / 2; ++i) {
        const float angle = 3 * data_random.uniform();
        rope[size_t(r) * c.dh + 2 * i] = std::cos(angle); rope[size_t(r) * c.dh + 2 * i + 1] = std::sin(angle);
    }
    GemmQkvParams p{};
    p.qkv = qkv.data(); p.mlp = c.mlp ? mlp.data() : nullptr; p.a = a.data(); p.weight[0] = w0.data(); p.weight[1] = w1.data();
    p.bias[0] = c.bias ? b0.data() : nullptr; p.bias[1] = c.bias ? b1.data() : nullptr;
    p.q_norm[0] = q0.data(); p.q_norm[1] = q1.data(); p.k_norm[0] = k0.data(); p.k_norm[1] = k1.data(); p.rope = rope.data();
    p.rows = c.rows; p.split = c.split; p.k = c.k; p.a_stride = a_stride; p.weight_stride = w_stride; p.heads = c.heads; p.head_dim = c.dh;
    p.mlp_width = c.mlp; p.mlp_stride = m_stride; for (int i = 0; i < 4; ++i) p.part_row[i] = part_row[i];
    p.raster_rows = c.raster; p.round_like_diffusers = c.round; p.eps = 1e-6f;
    auto tiles = [](int x, int y) { return (x + y - 1) / y; };
    const int grid = (tiles(c.split, tm) + tiles(c.rows - c.split, tm)) * (3 * tiles(width, tn) + tiles(c.mlp, tn));
    emulator::launch(dim3(grid), dim3(threads), shared, [&] { kernel(p); });

    Comparison cq, cm;
    auto round = [&](float x) { return c.round ? rb(x) : x; };
    std::vector<float> y(c.dh);
    for (int r = 0; r < c.rows; ++r) {
        const int s = r >= c.split;
        auto linear = [&](int part, int column) {
            const int row = part_row[part] + column;
            const bf16 *w = (s ? w1 : w0).data() + size_t(row) * w_stride;
            double sum = 0;
            for (int k = 0; k < c.k; ++k) sum += double(up(a[size_t(r) * a_stride + k])) * up(w[k]);
            return round(float(sum) + (c.bias ? (s ? b1 : b0)[part * width + column] : 0.0f));
        };
        for (int part = 0; part < 3; ++part) for (int h = 0; h < c.heads; ++h) {
            double squares = 0;
            for (int d = 0; d < c.dh; ++d) { y[d] = linear(part, h * c.dh + d); squares += double(y[d]) * y[d]; }
            if (part < 2) {
                const float inverse = float(1 / std::sqrt(squares / c.dh + 1e-6));
                const auto &norm = part == 0 ? (s ? q1 : q0) : (s ? k1 : k0);
                for (int d = 0; d < c.dh; ++d) y[d] = round(y[d] * inverse * norm[d]);
                for (int d = 0; d < c.dh; d += 2) {
                    const float cos = rope[size_t(r) * c.dh + d], sin = rope[size_t(r) * c.dh + d + 1], e = y[d], o = y[d + 1];
                    y[d] = e * cos - o * sin; y[d + 1] = o * cos + e * sin;
                }
            }
            for (int d = 0; d < c.dh; ++d)
                cq.add(up(qkv[(size_t(r) * 3 + part) * width + h * c.dh + d]), round(y[d]), c.round ? 4.0f : 1.02f, 0.25f);
        }
        for (int n = 0; n < m_stride; ++n) {
            uint16_t bits; memcpy(&bits, &mlp[size_t(r) * m_stride + n], 2);
            if (n >= c.mlp) { if (bits != 0xffff) emulator::fail("write into the gap of a row"); continue; }
            const float x = linear(3, n);
            cm.add(up(mlp[size_t(r) * m_stride + n]), round(0.5f * x * (1 + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x)))), c.round ? 4.0f : 1.02f, 0.25f);
        }
    }
    char label[160];
    snprintf(label, sizeof label, "%s rows=%d split=%d H=%d Dh=%d mlp=%d k=%d pad=%d b%d shuffled%d round%d", name, c.rows, c.split, c.heads, c.dh, c.mlp, c.k, c.pad, c.bias, c.shuffled, c.round);
    return cq.report(label) & (c.mlp ? cm.report("    mlp") : true);
}

int main(int argc, char **argv) {
    const Case cases[] = {
        {1, 1, 1, 64, 0, 8, 0, true, 0, 0, 1},
        {128, 64, 3, 64, 768, 192, 0, true, 0, 0, 4},
        {130, 65, 3, 64, 200, 192, 1, true, 1, 0, 2},
        {77, 0, 5, 64, 8, 72, 0, false, 0, 1, 3},
        {70, 9, 2, 128, 0, 96, 0, true, 0, 0, 1},
        {150, 40, 3, 128, 384, 160, 1, true, 1, 1, 2},
        {257, 129, 1, 128, 136, 256, 0, true, 0, 1, 12},
        {66, 2, 5, 32, 24, 64, 0, true, 0, 0, 2},
        {66, 2, 7, 16, 40, 64, 0, true, 0, 1, 2},
    };
    struct Entry { const char *name; Kernel kernel; int tm, tn, threads, shared, largest; };
    const Entry entries[] = {{"gemm_qkv_64x64", gemm_qkv_64x64, 64, 64, 128, 65536, 64}, {"gemm_qkv_64x128", gemm_qkv_64x128, 64, 128, 128, 98304, 128},
                             {"gemm_qkv_128x128", gemm_qkv_128x128, 128, 128, 128, 65536, 128}, {"gemm_qkv_128x256", gemm_qkv_128x256, 128, 256, 256, 98304, 128}};
    if (argc > 2) { // TEST SEED COUNT: random shapes
        data_random.state = atoi(argv[1]) * 7919 + 1; auto r = [&](int n) { return int(data_random.below(n)); };
        int failed = 0;
        for (int i = 0; i < atoi(argv[2]); ++i) {
            const Entry &e = entries[r(4)]; const int m = 1 + r(200), dh = r(2) ? 64 : e.largest, heads = 1 + r(5);
            const Case c{m, r(3) ? r(m + 1) : m, heads, dh, 8 * r(30), 8 + 8 * r(40), r(2), bool(r(2)), r(2), r(2), 1 + r(5)};
            emulator::scheduler_random.state = data_random.next();
            failed += !run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, c);
        }
        printf("%s\n", failed ? "FAILURES" : "ALL OK");
        return failed;
    }
    bool ok = true;
    int seed = 100;
    for (const Entry &e : entries) for (const Case &c : cases) {
        if (c.dh > e.largest) continue;
        emulator::scheduler_random.state = ++seed;
        ok &= run(e.name, e.kernel, e.tm, e.tn, e.threads, e.shared, c);
    }
    printf("conflicts %llu\n%s\n", (unsigned long long)emulator::statistics.ldmatrix_conflicts, ok ? "ALL OK" : "FAILURES");
    return !ok;
}
