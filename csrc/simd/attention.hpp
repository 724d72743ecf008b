// Attention for a group of kQueries queries that lie side by side: each is a lane, so that no sum runs across a vector.
#pragma once

#include "simd/lanes.hpp"
#include "simd/tier.hpp"

namespace edgespec::simd::EDGESPEC_TIER {

// scores[s, q] = sum over d of keys[s, d] * queries[d, q], for queries [width, kQueries] and keys [count, width].
template <int kSlots>
EDGESPEC_INLINE void score_slots(const float* queries, const float* keys, std::size_t width, float* scores) {
    constexpr int kVectors = kQueries / kLanes;
    Floats sums[kSlots][kVectors] = {};
    for (std::size_t d = 0; d < width; ++d) {
        EDGESPEC_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            const Floats query = load<Floats>(queries + d * kQueries + v * kLanes);
            EDGESPEC_UNROLL
            for (int s = 0; s < kSlots; ++s) sums[s][v] += keys[s * width + d] * query;
        }
    }
    for (int s = 0; s < kSlots; ++s) {
        for (int v = 0; v < kVectors; ++v) store(scores + s * kQueries + v * kLanes, sums[s][v]);
    }
}

inline void score_keys(const float* queries, const float* keys, std::size_t width, std::size_t count, float* scores) {
    constexpr int kAtOnce = EDGESPEC_LANE_BYTES == 64 ? 16 : EDGESPEC_LANE_BYTES == 32 ? 6 : 3;
    std::size_t s = 0;
    for (; s + kAtOnce <= count; s += kAtOnce) {
        score_slots<kAtOnce>(queries, keys + s * width, width, scores + s * kQueries);
    }
    for (; s < count; ++s) score_slots<1>(queries, keys + s * width, width, scores + s * kQueries);
}

// scores [count, kQueries] become exp(score + bias - the query's greatest); sums [kQueries] are each query's.
inline void weigh_scores(const float* bias, std::size_t count, float* scores, float* sums) {
    constexpr std::size_t kVectors = kQueries / kLanes;
    Floats tops[kVectors], totals[kVectors] = {};
    for (Floats& top : tops) top = Floats{} - 3.0e38f;
    for (std::size_t s = 0; s < count; ++s) {
        EDGESPEC_UNROLL
        for (std::size_t v = 0; v < kVectors; ++v) {
            float* at = scores + s * kQueries + v * kLanes;
            const Floats score = load<Floats>(at) + load<Floats>(bias + s * kQueries + v * kLanes);
            store(at, score);
            tops[v] = score > tops[v] ? score : tops[v];
        }
    }
    for (std::size_t s = 0; s < count; ++s) {
        EDGESPEC_UNROLL
        for (std::size_t v = 0; v < kVectors; ++v) {
            float* at = scores + s * kQueries + v * kLanes;
            const Floats weight = exp_of(load<Floats>(at) - tops[v]);
            store(at, weight);
            totals[v] += weight;
        }
    }
    for (std::size_t v = 0; v < kVectors; ++v) store(sums + v * kLanes, totals[v]);
}

// kVectors vectors of each of kOf queries' results stay in registers while the values go by.
template <int kOf, int kVectors>
EDGESPEC_INLINE void mix_tile(const float* weights, const float* values, std::size_t width, std::size_t count,
                              float* mixed) {
    Floats sums[kOf][kVectors];
    for (int q = 0; q < kOf; ++q) {
        for (int v = 0; v < kVectors; ++v) sums[q][v] = load<Floats>(mixed + q * width + v * kLanes);
    }
    for (std::size_t s = 0; s < count; ++s) {
        EDGESPEC_UNROLL
        for (int v = 0; v < kVectors; ++v) {
            const Floats value = load<Floats>(values + s * width + v * kLanes);
            EDGESPEC_UNROLL
            for (int q = 0; q < kOf; ++q) sums[q][v] += weights[s * kQueries + q] * value;
        }
    }
    for (int q = 0; q < kOf; ++q) {
        for (int v = 0; v < kVectors; ++v) store(mixed + q * width + v * kLanes, sums[q][v]);
    }
}

template <int kVectors>
EDGESPEC_INLINE void mix_columns(const float* weights, const float* values, std::size_t width, std::size_t count,
                                 std::size_t queries, float* mixed) {
    std::size_t q = 0;
    for (; q + 8 <= queries && kLanes > 8; q += 8) {
        mix_tile<8, kVectors>(weights + q, values, width, count, mixed + q * width);
    }
    for (; q + 4 <= queries; q += 4) mix_tile<4, kVectors>(weights + q, values, width, count, mixed + q * width);
    for (; q < queries; ++q) mix_tile<1, kVectors>(weights + q, values, width, count, mixed + q * width);
}

// mixed[q, :] += sum over s of weights[s, q] * values[s, :], for q < queries and values [count, width].
inline void mix_values(const float* weights, const float* values, std::size_t width, std::size_t count,
                       std::size_t queries, float* mixed) {
    std::size_t column = 0;
    for (; column + 2 * kLanes <= width; column += 2 * kLanes) {
        mix_columns<2>(weights, values + column, width, count, queries, mixed + column);
    }
    for (; column + kLanes <= width; column += kLanes) {
        mix_columns<1>(weights, values + column, width, count, queries, mixed + column);
    }
    for (; column < width; ++column) {
        for (std::size_t q = 0; q < queries; ++q) {
            for (std::size_t s = 0; s < count; ++s) {
                mixed[q * width + column] += weights[s * kQueries + q] * values[s * width + column];
            }
        }
    }
}

}  // namespace edgespec::simd::EDGESPEC_TIER
