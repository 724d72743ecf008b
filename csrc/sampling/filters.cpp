#include "sampling/filters.hpp"

#include <algorithm>
#include <functional>

namespace edgespec::sampling {

namespace {

template <class T>
constexpr T kInfinity = std::numeric_limits<T>::infinity();

// Tokens that are sorted to find top-p's edge, at most but for ties.
constexpr std::size_t kSorted = 256;
constexpr int kHalvings = 60;

}  // namespace

template <class T>
void Filters<T>::reserve(std::size_t count) {
    weights_.reserve(count);
    edge_.reserve(count);
}

template <class T>
void Filters<T>::apply(T* scores, std::size_t count, const FilterSettings& settings) {
    const auto k = static_cast<std::size_t>(settings.top_k);
    if (k > 0 && k < count) keep_top_k(scores, count, k);
    if (settings.top_p < 1) keep_top_p(scores, count, settings.top_p);
    if (settings.min_p > 0) {
        loops_.mask(scores, count, min_p_edge(*std::max_element(scores, scores + count), settings.min_p), 0);
    }
}

template <class T>
void Filters<T>::keep_top_k(T* scores, std::size_t count, std::size_t k) {
    weights_.assign(scores, scores + count);
    const auto kth = weights_.begin() + static_cast<std::ptrdiff_t>(k - 1);
    std::nth_element(weights_.begin(), kth, weights_.end(), std::greater<T>());
    loops_.mask(scores, count, *kth, 0);
}

template <class T>
void Filters<T>::keep_top_p(T* scores, std::size_t count, double p) {
    const T top = *std::max_element(scores, scores + count);
    weights_.resize(count);
    loops_.weigh(scores, count, top, weights_.data());
    std::size_t number = 0, above_number = 0;
    const double wanted = p * loops_.mass_from(scores, weights_.data(), count, -kInfinity<T>, number);
    // The edge lies in [low, high): what is at least `low` weighs enough, what is at least `high` does not.
    T low = top, high = kInfinity<T>;
    double above = 0;
    for (T depth = 1; loops_.mass_from(scores, weights_.data(), count, low, number) < wanted; depth *= 2) {
        high = low;
        above = loops_.mass_from(scores, weights_.data(), count, high, above_number);
        low = depth < 128 ? top - depth : std::numeric_limits<T>::lowest();
        if (high == low) return;  // all of them together do not reach p, for rounding
    }
    for (int i = 0; i < kHalvings && number - above_number > kSorted && high < kInfinity<T>; ++i) {
        const T middle = low + (high - low) / 2;
        if (!(middle > low && middle < high)) break;
        std::size_t middle_number = 0;
        const double mass = loops_.mass_from(scores, weights_.data(), count, middle, middle_number);
        if (mass >= wanted) {
            low = middle, number = middle_number;
        } else {
            high = middle, above = mass, above_number = middle_number;
        }
    }
    edge_.clear();
    for (std::size_t token = 0; token < count; ++token) {
        if (scores[token] >= low && scores[token] < high) edge_.push_back({scores[token], token});
    }
    std::sort(edge_.begin(), edge_.end(), [](const Scored& a, const Scored& b) {
        return a.score != b.score ? a.score > b.score : a.token > b.token;
    });
    for (const Scored& last : edge_) {
        above += weights_[last.token];
        if (above >= wanted) return loops_.mask(scores, count, last.score, last.token);
    }
}

template class Filters<float>;
template class Filters<double>;

}  // namespace edgespec::sampling
