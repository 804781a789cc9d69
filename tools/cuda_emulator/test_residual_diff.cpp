#define EMULATE_WITHOUT_SHARED_MEMORY
#define EMULATE_WITHOUT_CP_ASYNC
#define EMULATE_WITHOUT_MMA
#include "cuda_emulator.h"
#include "../../kernels/residual_diff.cu"
#include "ptx_bodies.h"
#include "check.h"

constexpr uint32_t STEPS = 28;

// The words of a list, as the launcher gives them.
struct List {
    emulator::Guarded<uint32_t> step{1}, limits{8}, replay{STEPS}, counters{8}, decision{1}, reasons{STEPS};
    emulator::Guarded<float> diffs{STEPS};

    static void put(uint32_t *words, double value) { memcpy(words, &value, 8); }
    List(double threshold, double accumulated, uint32_t cached, uint32_t continuous, bool streak, bool f32) {
        put(&limits[0], threshold); put(&limits[2], accumulated);
        limits[4] = cached; limits[5] = continuous; limits[6] = streak; limits[7] = f32;
        for (uint32_t i = 0; i < 8; ++i) counters[i] = 0;
        for (uint32_t i = 0; i < STEPS; ++i) { replay[i] = 0; reasons[i] = 0; diffs[i] = 0; }
    }
    void launch(uint32_t at, int blocks, int count, const bf16 *reference, const bf16 *before, const bf16 *after) {
        emulator::Guarded<float2> sums(blocks);
        step[0] = at;
        flux_rt::ResidualDiffParams p{};
        // At step 0 there may be no reference: reading it would be the end.
        p.reference = at == 0 ? nullptr : reference; p.before = before; p.after = after; p.step = step.data();
        p.limits = limits.data(); p.replay = replay.data(); p.counters = counters.data(); p.decision = decision.data();
        p.reasons = reasons.data(); p.diffs = diffs.data(); p.sums = sums.data(); p.count = count; p.steps = STEPS;
        emulator::launch(dim3(blocks), dim3(256), 0, [&] { residual_diff(p); });
    }
};

// The relative difference against f64, and the same bits whatever the order of the blocks.
static bool run_sums(int count, int blocks, int offset, bool f32) {
    emulator::Guarded<bf16> reference(count + offset), before(count), after(count);
    fill(reference.data(), reference.count); fill(before.data(), count); fill(after.data(), count);
    const bf16 *old = reference.data() + offset;
    double moved = 0, size = 0;
    for (int i = 0; i < count; ++i) {
        const float difference = up(old[i]) - rb(up(after[i]) - up(before[i]));
        moved += std::fabs(f32 ? difference : rb(difference));
        size += std::fabs(up(old[i]));
    }
    auto round = [&](double x) { return f32 ? float(x) : rb(float(x)); };
    const float expected = round(round(moved / count) / round(size / count));
    float first = 0;
    bool ok = true;
    for (int repeat = 0; repeat < 2; ++repeat) {
        // A difference so large is a miss, and recorded.
        List list(0.5, 0, ~0u, ~0u, true, f32);
        emulator::scheduler_random.state = 31 * count + repeat;
        list.launch(7, blocks, count, old, before.data(), after.data());
        const float actual = list.diffs[7];
        const double error = std::fabs(double(actual) - expected) / expected;
        // Where means are rounded, one may have been near a tie.
        ok &= error <= (f32 ? 1e-5 : 1.0 / 64) && (repeat == 0 || actual == first);
        ok &= list.decision[0] == (actual < 0.5f) && list.reasons[7] == (0x100u | (actual < 0.5f ? 9 : 10));
        first = actual;
    }
    std::printf("residual_diff n=%d blocks=%d offset=%d f32=%d: %g, expected %g %s\n", count, blocks, offset, f32, first, expected, ok ? "ok" : "FAILED");
    return ok;
}

// Spec dualcache 4 and 6, written down once more.
struct Rule {
    double threshold, limit; uint32_t cached, continuous; bool streak;
    double sum = 0; uint32_t c = 0, hits = 0; int last = -1;

    uint32_t decide(uint32_t t, bool has, float d, uint32_t replay, float &recorded, bool &is_recorded) {
        const int now = int(t);
        if (streak && (last < 0 || last != now - 1)) c = 0;
        uint32_t reason;
        is_recorded = false; recorded = 0;
        if (cached != ~0u && hits >= cached) reason = 4;
        else if (continuous != ~0u && c >= continuous) reason = 5;
        else if (limit > 0 && sum >= limit) reason = 6;
        else if (threshold <= 0) reason = 7;
        else if (!has) reason = 8;
        else { is_recorded = true; recorded = threshold >= 1 ? -1.0f : d; reason = threshold >= 1 || double(d) < threshold ? 9 : 10; }
        if (is_recorded && recorded > 0) sum += recorded;
        if (replay && (replay == 2) != (reason == 9)) reason = replay == 2 ? 9 : 10;
        if (reason == 5 && !streak) c = 0;
        if (reason == 9) {
            if (streak || last < 0) ++c;
            else if (last == now - 1) c = c == 0 ? 2 : c + 1;
            last = now; ++hits;
        }
        return reason;
    }
};

// Lists of steps whose residuals are the same everywhere: every verdict, the counters, the log.
static bool run_lists(int lists) {
    auto chance = [](uint32_t n) { return data_random.below(n) == 0; };
    int hits = 0, seen[11] = {};
    for (int i = 0; i < lists; ++i) {
        const bool f32 = chance(2), streak = chance(2), replayed = chance(3);
        const double thresholds[] = {0.0, 0.03, 0.05, 0.08, 0.125, 0.2, 0.4, 1.0};
        Rule rule{thresholds[data_random.below(8)], chance(3) ? 0.3 : 0.0, chance(3) ? data_random.below(9) : ~0u,
                  chance(2) ? data_random.below(5) : ~0u, streak};
        List list(rule.threshold, rule.limit, rule.cached, rule.continuous, streak, f32);
        if (replayed) for (uint32_t t = 0; t < STEPS; ++t) list.replay[t] = data_random.below(3);
        const int count = chance(2) ? 5 : 8;
        emulator::Guarded<bf16> reference(count), before(count), after(count);
        int residual = 64, old = 0;
        for (uint32_t t = 0; t < STEPS; ++t) {
            residual = std::min(255, residual + int(data_random.below(16)));
            for (int k = 0; k < count; ++k) {
                before[k] = __float2bfloat16_rn(-1.0f); after[k] = __float2bfloat16_rn(residual / 64.0f - 1.0f);
                reference[k] = __float2bfloat16_rn(old / 64.0f);
            }
            auto round = [&](float x) { return f32 ? x : rb(x); };
            const float d = t == 0 ? 0.0f : round(round(std::abs(old - residual) / 64.0f) / round(old / 64.0f));
            float recorded; bool is_recorded;
            const uint32_t reason = rule.decide(t, t > 0, d, list.replay[t], recorded, is_recorded);
            list.launch(t, 1, count, reference.data(), before.data(), after.data());
            double sum; memcpy(&sum, &list.counters[0], 8);
            const bool same = list.reasons[t] == (reason | (is_recorded ? 0x100 : 0)) && list.diffs[t] == recorded && list.decision[0] == (reason == 9) &&
                              sum == rule.sum && list.counters[2] == rule.c && list.counters[3] == uint32_t(rule.last + 1) && list.counters[4] == rule.hits;
            if (!same) {
                std::printf("list %d step %u: reason %x diff %g, expected %u %g FAILED\n", i, t, list.reasons[t], list.diffs[t], reason, recorded);
                return false;
            }
            ++seen[reason];
            if (reason != 9) old = residual; else ++hits;
        }
        // Past the last step: a decision to compute, and nothing else.
        const uint32_t before_reason = list.reasons[STEPS - 1];
        list.launch(STEPS, 3, count, reference.data(), before.data(), after.data());
        if (list.decision[0] != 0 || list.reasons[STEPS - 1] != before_reason || list.counters[4] != rule.hits) { std::printf("past the end FAILED\n"); return false; }
    }
    std::printf("%d lists of %u steps, %d hits; reasons 4 to 10:", lists, STEPS, hits);
    bool all = true;
    for (int reason = 4; reason <= 10; ++reason) { std::printf(" %d", seen[reason]); all &= seen[reason] > 0; }
    std::printf(" %s\n", all ? "ok" : "FAILED");
    return all;
}

// A reference of zeros: 0 / 0 or x / 0, neither a hit.
static bool run_zeros() {
    emulator::Guarded<bf16> zeros(16);
    for (int i = 0; i < 16; ++i) zeros[i] = __float2bfloat16_rn(0.0f);
    bool ok = true;
    for (bool f32 : {false, true}) {
        List list(0.9, 1.0, ~0u, ~0u, true, f32);
        list.launch(3, 1, 16, zeros.data(), zeros.data(), zeros.data());
        double sum; memcpy(&sum, &list.counters[0], 8);
        ok &= list.decision[0] == 0 && list.reasons[3] == 0x10a && std::isnan(list.diffs[3]) && sum == 0;
    }
    std::printf("zeros %s\n", ok ? "ok" : "FAILED");
    return ok;
}

int main(int argc, char **argv) {
    bool ok = run_zeros();
    const int cases[][3] = {{1, 1, 0}, {7, 1, 0}, {8, 1, 0}, {6144, 1, 0}, {6152, 2, 0}, {6152, 2, 1}, {40000, 7, 0}, {40001, 7, 0}, {12, 5, 0}, {9000, 300, 0}};
    for (const auto &c : cases) for (bool f32 : {false, true}) ok &= run_sums(c[0], c[1], c[2], f32);
    ok &= run_lists(argc > 2 ? atoi(argv[2]) : 60);
    printf("%s\n", ok ? "ALL OK" : "FAILURES");
    return !ok;
}
