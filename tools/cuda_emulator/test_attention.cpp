#include "cuda_emulator.h"
#include "../../kernels/attention.cu"
#include "ptx_bodies.h"
#include "check.h"
namespace flux_rt { inline float exp2_approx(float x) { const float y = std::exp2(x); return y < 1.17549435e-38f ? 0.0f : y; } }
using flux_rt::AttentionParams;
using Kernel = void (*)(const AttentionParams);
struct Entry { const char *name; Kernel kernel; int queries, threads, bytes, dim, mask; };
static const Entry D128{"attention_d128", attention_d128, 128, 128, 81920, 128, 0}, D64{"attention_d64", attention_d64, 128, 128, 40960, 64, 0},
    CAUSAL{"attention_d64_causal", attention_d64_causal, 128, 128, 40960, 64, 1}, RELATIVE{"attention_d64_relative", attention_d64_relative, 128, 128, 40960, 64, 2},
    GENERAL{"attention_general", attention_general, 128, 128, 57344, -1, -1}, WIDE{"attention_wide", attention_wide, 64, 256, 148480, -1, 0},
    SMALL{"attention_wide_small", attention_wide_small, 64, 256, 99328, -1, 0};
static bool run(const Entry &e, int s, int heads, int dim, int mask, int pad, float scale, float q_amplitude) {
    const int stride = heads * dim + pad;
    emulator::Guarded<bf16> qkv(size_t(s) * 3 * heads * dim), out(size_t(s) * stride - pad);
    emulator::Guarded<float> bias(size_t(heads) * (2 * s - 1));
    fill(qkv.data(), qkv.count, q_amplitude); fill(bias.data(), bias.count, 4);
    AttentionParams p{}; p.out = out.data(); p.qkv = qkv.data(); p.bias = mask == 2 ? bias.data() : nullptr; p.seq = s; p.heads = heads; p.head_dim = dim; p.out_stride = stride; p.mask = mask; p.scale = scale;
    emulator::launch(dim3((s + e.queries - 1) / e.queries, heads), dim3(e.threads), e.bytes, [&] { e.kernel(p); });
    out.check(); qkv.check();
    Comparison c;
    auto at = [&](int t, int part, int h, int d) { return double(up(qkv[(size_t(t * 3 + part) * heads + h) * dim + d])); };
    for (int h = 0; h < heads; ++h) for (int q = 0; q < s; ++q) {
        std::vector<double> w(s); double top = -INFINITY, sum = 0;
        for (int k = 0; k < s; ++k) { double d = 0; for (int i = 0; i < dim; ++i) d += at(q, 0, h, i) * at(k, 1, h, i); d *= scale; if (mask == 2) d += bias[size_t(h) * (2 * s - 1) + k - q + s - 1]; w[k] = mask == 1 && k > q ? -INFINITY : d; top = std::max(top, w[k]); }
        for (double &x : w) { x = std::exp(x - top); sum += x; }
        for (int d = 0; d < dim; ++d) { double v = 0; for (int k = 0; k < s; ++k) v += w[k] * at(k, 2, h, d); c.add(up(out[size_t(q) * stride + h * dim + d]), v / sum, 4.0f, q_amplitude * 0.5f); }
    }
    for (int r = 0; r + 1 < s; ++r) for (int i = heads * dim; i < stride; ++i) { uint16_t b; memcpy(&b, &out[size_t(r) * stride + i], 2); if (b != 0xffff) emulator::fail("gap written"); }
    char label[160]; snprintf(label, sizeof label, "%s s=%d h=%d d=%d mask=%d pad=%d", e.name, s, heads, dim, mask, pad);
    return c.report(label);
}
int main() {
    bool ok = true; int seed = 0;
    auto go = [&](const Entry &e, int s, int h, int d, int m, int pad, float scale, float a) { emulator::scheduler_random.state = ++seed; ok &= run(e, s, h, d, m, pad, scale, a); };
    for (int s : {1, 63, 64, 65, 128, 129, 200, 321}) {
        go(D128, s, 2, 128, 0, 8, 0.0884f, 2); go(D64, s, 2, 64, 0, 16, 0.125f, 2); go(CAUSAL, s, 2, 64, 1, 0, 0.125f, 2); go(RELATIVE, s, 2, 64, 2, 8, 1, 1);
        go(WIDE, s, 1, 512, 0, 8, 0.0442f, 2); go(SMALL, s, 1, 512, 0, 0, 0.0442f, 2);
    }
    for (int d : {1, 5, 16, 32, 72, 128}) for (int m = 0; m < 3; ++m) for (int s : {1, 33, 77, 140}) go(GENERAL, s, 2, d, m, d % 8 ? 3 : 8, 0.3f, 1);
    for (int d : {16, 136, 320, 504}) for (int s : {40, 150}) { go(WIDE, s, 2, d, 0, 8, 0.1f, 1); go(SMALL, s, 2, d, 0, 8, 0.1f, 1); }
    printf("mma %llu ldmatrix %llu conflicts %llu copies %llu\n%s\n", (unsigned long long)emulator::statistics.mma, (unsigned long long)emulator::statistics.ldmatrix,
           (unsigned long long)emulator::statistics.ldmatrix_conflicts, (unsigned long long)emulator::statistics.copies, ok ? "ALL OK" : "FAILURES");
    return !ok;
}
