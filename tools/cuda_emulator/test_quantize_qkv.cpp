#define EMULATE_WITHOUT_SHARED_MEMORY
#define EMULATE_WITHOUT_CP_ASYNC
#define EMULATE_WITHOUT_MMA
#include "cuda_emulator.h"
#include "../../kernels/quantize_qkv.cu"
#include "ptx_bodies.h"
#include "check.h"
using namespace flux_rt;

struct Case { int seq, heads, head_dim; float amplitude; };

static bool run(const Case &c) {
    const size_t width = size_t(c.heads) * c.head_dim, padded = (c.seq + 127) / 128 * 128;
    emulator::Guarded<bf16> x(c.seq * 3 * width);
    emulator::Guarded<uint8_t> qk(c.seq * 2 * width), v(width * padded);
    emulator::Guarded<float> units(width);
    fill(x.data(), c.seq * 3 * width, c.amplitude);
    for (size_t i = 0; i < width; ++i) units[i] = std::ldexp(1.0f, int(i % 7) - 3);
    QuantizeQkvParams p{};
    p.qk = qk.data(); p.v = v.data(); p.v_units = units.data(); p.qkv = x.data();
    p.seq = c.seq; p.heads = c.heads; p.head_dim = c.head_dim; p.padded = int(padded);
    p.inverse[0] = 448 / c.amplitude; p.inverse[1] = 100 / c.amplitude;
    const int blocks = int(width / 16 + (c.seq * 2 * width / 16 + 255) / 256);
    emulator::launch(dim3(blocks), dim3(QUANTIZE_QKV_THREADS), 0, [&] { quantize_qkv(p); });
    size_t wrong = 0;
    for (int key = 0; key < c.seq; ++key) for (size_t i = 0; i < 2 * width; ++i)
        wrong += qk[key * 2 * width + i] != uint8_t(to_e4m3(up(x[key * 3 * width + i]) * p.inverse[i / width]));
    for (size_t channel = 0; channel < width; ++channel) {
        for (size_t key = 0; key < padded; ++key) {
            const size_t in_group = key % 16, at = key - in_group + 2 * (in_group % 8) + in_group / 8;
            const float value = key < size_t(c.seq) ? up(x[(key * 3 + 2) * width + channel]) : 0;
            wrong += v[channel * padded + at] != uint8_t(to_e4m3(value / units[channel]));
        }
    }
    printf("quantize_qkv %dx%dx%d amplitude %g: %zu wrong\n", c.seq, c.heads, c.head_dim, c.amplitude, wrong);
    return wrong == 0;
}

int main() {
    const Case cases[] = {{1, 1, 16, 1}, {15, 3, 48, 1}, {17, 2, 128, 1e-20f}, {130, 1, 128, 3e4f}, {300, 2, 16, 0}};
    bool ok = true;
    for (const Case &c : cases) ok &= run(c);
    printf("%s\n", ok ? "ALL OK" : "FAILURES");
    return !ok;
}
