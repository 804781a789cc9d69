#define EMULATE_WITHOUT_SHARED_MEMORY
#define EMULATE_WITHOUT_CP_ASYNC
#define EMULATE_WITHOUT_MMA
#include "cuda_emulator.h"
#include "../../kernels/add_scaled.cu"
#include "../../kernels/taylor.cu"
#include "ptx_bodies.h"
#include "check.h"

static bool run_add_scaled(int count, float scale, int offset) {
    emulator::Guarded<bf16> out(count + offset), a(count + offset), b(count);
    fill(a.data(), a.count, 2.0f); fill(b.data(), b.count, 2.0f);
    flux_rt::AddScaledParams p{};
    p.out = out.data() + offset; p.a = a.data() + offset; p.b = b.data(); p.count = count; p.scale = scale;
    emulator::launch(dim3((count + 4095) / 4096), dim3(256), 0, [&] { add_scaled(p); });
    Comparison comparison;
    for (int i = 0; i < count; ++i) comparison.add(up(p.out[i]), rb(up(p.a[i]) + scale * up(b[i])), 0.0f, 0.0f);
    char label[160];
    snprintf(label, sizeof label, "add_scaled n=%d scale %g offset %d", count, scale, offset);
    return comparison.report(label);
}

// Steps with gaps, each taken in; after each a forecast some steps ahead, of rows in the middle.
static bool run_taylor(int rows, int columns, int orders) {
    const int count = rows * columns, first = rows / 3, part = (rows - first) * columns;
    const uint32_t steps[] = {0, 1, 2, 3, 5, 6, 9, 13};
    emulator::Guarded<bf16> quotients(size_t(orders) * count), before(count), after(count), out(part);
    emulator::Guarded<uint32_t> clock(2), step(1);
    std::vector<float> expected(size_t(orders) * count);
    clock[0] = clock[1] = 0;
    uint32_t last = 0, known = 0;
    Comparison comparison;
    for (uint32_t at : steps) {
        fill(before.data(), count); fill(after.data(), count, 3.0f);
        step[0] = at;
        flux_rt::TaylorUpdateParams u{};
        u.quotients = quotients.data(); u.before = before.data(); u.after = after.data(); u.clock = clock.data();
        u.step = step.data(); u.count = count; u.orders = orders;
        emulator::launch(dim3((count + 2047) / 2048), dim3(256), 0, [&] { taylor_update(u); });
        const uint32_t fresh = at >= 3 ? std::min<uint32_t>(orders, known + 1) : 1;
        if (clock[0] != at || clock[1] != fresh) emulator::fail("clock is %u, %u after step %u", clock[0], clock[1], at);
        for (int i = 0; i < count; ++i) {
            float value = rb(up(after[i]) - up(before[i]));
            for (uint32_t order = 0; order < fresh; ++order) {
                float &stored = expected[size_t(order) * count + i];
                const float next = (value - stored) / float(at - last);
                // The next quotient starts from what is stored, which may have fallen to the other side of a tie.
                comparison.add(up(quotients[size_t(order) * count + i]), value, 1.01f, 0.01f);
                stored = up(quotients[size_t(order) * count + i]);
                value = next;
            }
        }
        last = at; known = fresh;
        const uint32_t ahead = data_random.below(4);
        step[0] = at + ahead;
        flux_rt::TaylorForecastParams f{};
        f.out = out.data(); f.before = before.data() + size_t(first) * columns; f.quotients = quotients.data() + size_t(first) * columns;
        f.clock = clock.data(); f.step = step.data(); f.count = part; f.order_stride = count;
        emulator::launch(dim3((part + 2047) / 2048), dim3(256), 0, [&] { taylor_forecast(f); });
        for (int i = 0; i < part; ++i) {
            const size_t index = size_t(first) * columns + i;
            double value = up(before[index]), factor = 1, size = std::fabs(value);
            for (uint32_t order = 0; order < known; ++order) {
                const double term = factor * expected[size_t(order) * count + index];
                value += term; size += std::fabs(term);
                factor *= double(ahead) / (order + 1);
            }
            comparison.add(up(out[i]), float(value), 1.01f, float(size) / 1024);
        }
    }
    char label[160];
    snprintf(label, sizeof label, "taylor %d x %d, %d quotients", rows, columns, orders);
    return comparison.report(label);
}

int main() {
    bool ok = true;
    int seed = 700;
    auto next = [&] { emulator::scheduler_random.state = ++seed; };
    for (int count : {1, 7, 8, 2049, 4096, 4104, 9000, 12288})
        for (float scale : {1.0f, -1.0f})
            for (int offset : {0, 1}) { next(); ok &= run_add_scaled(count, scale, offset); }
    next(); ok &= run_add_scaled(8200, 0.5f, 0);
    const int shapes[][2] = {{1, 1}, {1, 8}, {3, 5}, {3, 8}, {9, 512}, {5, 1001}, {33, 128}};
    for (const auto &shape : shapes)
        for (int orders : {1, 2, 3}) { next(); ok &= run_taylor(shape[0], shape[1], orders); }
    printf("%s\n", ok ? "ALL OK" : "FAILURES");
    return !ok;
}
