// Loops of one level; a loops_*.cpp names it and includes this. Everything is in an unnamed namespace, for those files
// must share no inline function with the rest (see sampling/level.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "decoder/loops.hpp"

#define EDGESPEC_INLINE inline __attribute__((always_inline))

namespace edgespec::decoder {

namespace {

typedef float Floats __attribute__((vector_size(EDGESPEC_LANE_BYTES)));

constexpr std::size_t kLanes = EDGESPEC_LANE_BYTES / sizeof(float);

EDGESPEC_INLINE Floats load(const float* from) {
    Floats value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

EDGESPEC_INLINE void store(float* to, Floats value) { std::memcpy(to, &value, sizeof value); }

#include "decoder/panels_of_level.hpp"

// exp(x), relative error below 2e-7; 0 below -87, and as at 87 above it. Cephes' expf, by Moshier.
EDGESPEC_INLINE float exp_of(float x) {
    const float low = x < -87.0f ? -87.0f : x;
    const float bounded = low > 87.0f ? 87.0f : low;
    const float shifted = bounded * 1.44269504089f + 12582912.0f;
    const float n = shifted - 12582912.0f;
    const float r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    std::uint32_t bits;
    std::memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 23) + 0x3f800000u;
    float power;
    std::memcpy(&power, &bits, sizeof power);
    return x < -87.0f ? 0.0f : p * power;
}

// Running sums side by side, which the compiler makes vectors of.
constexpr std::size_t kSums = 16;

void norm(const float* x, const float* weight, std::size_t dim, float epsilon, float* to) {
    float squares[kSums] = {};
    std::size_t i = 0;
    for (; i + kSums <= dim; i += kSums) {
        for (std::size_t k = 0; k < kSums; ++k) squares[k] += x[i + k] * x[i + k];
    }
    for (; i < dim; ++i) squares[0] += x[i] * x[i];
    float sum = 0;
    for (const float square : squares) sum += square;
    const float scale = 1.0f / __builtin_sqrtf(sum / static_cast<float>(dim) + epsilon);
    for (i = 0; i < dim; ++i) to[i] = x[i] * scale * weight[i];
}

void rotate(float* x, const float* cos, const float* sin, std::size_t width) {
    const std::size_t half = width / 2;
    for (std::size_t i = 0; i < half; ++i) {
        const float low = x[i], high = x[i + half];
        x[i] = low * cos[i] - high * sin[i];
        x[i + half] = high * cos[i + half] + low * sin[i + half];
    }
}

#include "decoder/attention_of_level.hpp"

void gate(const float* gate, const float* up, std::size_t count, float* to) {
    for (std::size_t i = 0; i < count; ++i) to[i] = gate[i] / (1.0f + exp_of(-gate[i])) * up[i];
}

void add(float* to, const float* from, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace

extern const Loops EDGESPEC_LOOPS;
const Loops EDGESPEC_LOOPS{EDGESPEC_LOOPS_NAME, multiply, norm, rotate, score, weigh, mix, gate, add};

}  // namespace edgespec::decoder
