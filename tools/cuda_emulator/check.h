// Host-side reference arithmetic and comparison for the tests.
#pragma once
using bf16 = __nv_bfloat16;
inline float rb(float x) { return __bfloat162float(__float2bfloat16_rn(x)); }
inline float up(bf16 x) { return __bfloat162float(x); }
inline emulator::Random data_random;

inline void fill(bf16 *p, size_t n, float amplitude = 1.0f) {
    for (size_t i = 0; i < n; ++i) p[i] = __float2bfloat16_rn(amplitude * data_random.uniform());
}
inline void fill(float *p, size_t n, float amplitude = 1.0f) {
    for (size_t i = 0; i < n; ++i) p[i] = amplitude * data_random.uniform();
}
// Numbers of up to 4 in size, evenly spread.
inline void fill_e4m3(uint8_t *p, size_t n) {
    for (size_t i = 0; i < n; ++i) {
        const float value = 4 * std::fabs(data_random.uniform());
        int exponent;
        const float part = std::frexp(value, &exponent);
        const int biased = exponent + 6;
        p[i] = (biased > 0 ? biased << 3 | (int(part * 16) & 7) : 0) | (data_random.below(2) ? 0x80 : 0);
    }
}
struct Comparison {
    double worst = 0, square_error = 0, square = 0;
    size_t count = 0, bad = 0;
    // Tolerance: `ulps` bf16 steps (2^-8 relative each) of max(|expected|, floor).
    void add(float actual, float expected, float ulps, float floor) {
        ++count;
        const double scale = std::fmax(std::fabs(expected), floor) / 256.0, error = std::fabs(double(actual) - expected);
        if (!(error <= ulps * scale)) ++bad;
        if (!(error / scale <= worst)) worst = error / scale;
        square_error += error * error;
        square += double(expected) * expected;
    }
    bool report(const char *name) const {
        std::printf("%-70s n=%-8zu worst=%.3f halfulp-steps  rel L2=%.2e %s\n", name, count, worst,
                    std::sqrt(square_error / (square + 1e-30)), bad == 0 && count > 0 ? "ok" : "FAILED");
        std::fflush(stdout);
        return bad == 0 && count > 0;
    }
};
