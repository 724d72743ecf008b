// What a layer does to a row beside its products and its attention.
#pragma once

#include "simd/lanes.hpp"

namespace edgespec::simd::EDGESPEC_TIER {

// Running sums side by side, which the compiler makes vectors of.
constexpr std::size_t kSums = 16;

inline void norm(const float* x, const float* weight, std::size_t dim, float epsilon, float* to) {
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

inline void rotate(float* x, const float* cos, const float* sin, std::size_t width) {
    const std::size_t half = width / 2;
    for (std::size_t i = 0; i < half; ++i) {
        const float low = x[i], high = x[i + half];
        x[i] = low * cos[i] - high * sin[i];
        x[i + half] = high * cos[i + half] + low * sin[i + half];
    }
}

inline void gate(const float* gate, const float* up, std::size_t count, float* to) {
    for (std::size_t i = 0; i < count; i += kLanes) {
        const std::size_t n = count - i < kLanes ? count - i : kLanes;
        const Floats own = load_some(gate + i, n), minus = -own;
        const Floats gated = own / (1.0f + exp_of(minus > 87.0f ? Floats{} + 87.0f : minus)) * load_some(up + i, n);
        std::memcpy(to + i, &gated, n * sizeof(float));
    }
}

inline void add(float* to, const float* from, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) to[i] += from[i];
}

}  // namespace edgespec::simd::EDGESPEC_TIER
