// What top-k, top-p and min-p leave of a row, as one cut: they all keep an upper part of the scores.
//
// Top-k keeps ties at its edge. Top-p keeps the fewest best tokens whose probability reaches p, of equals at its edge
// those with the highest ids (transformers sorts rising and stably, and drops from below). Source of the rules:
// transformers' logits processors.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "simd/tier.hpp"

namespace edgespec::sampling {

using simd::RowLoops;
using simd::Tier;

struct FilterSettings {
    std::int32_t top_k;   // 0: all
    double top_p, min_p;  // 1 and 0: all
};

// The lowest score that min-p keeps: exp(score - top) >= min_p.
template <class T>
T min_p_edge(T top, double min_p) {
    const double log_min_p = std::log(min_p);
    T lowest = static_cast<T>(top + log_min_p);
    if (static_cast<double>(lowest) - top < log_min_p) {
        lowest = std::nextafter(lowest, std::numeric_limits<T>::infinity());
    }
    return std::min(lowest, top);
}

// Sets the scores [count] that are dropped to -inf. Its vectors are kept for the next row.
template <class T>
class Filters {
 public:
    explicit Filters(const Tier& tier) : loops_(tier.loops<T>()) {}
    void reserve(std::size_t count);  // for rows of `count` scores
    void apply(T* scores, std::size_t count, const FilterSettings& settings);

 private:
    void keep_top_k(T* scores, std::size_t count, std::size_t k);
    void keep_top_p(T* scores, std::size_t count, double p);

    struct Scored {
        T score;
        std::size_t token;
    };
    const RowLoops<T>& loops_;
    std::vector<T> weights_;
    std::vector<Scored> edge_;
};

}  // namespace edgespec::sampling
