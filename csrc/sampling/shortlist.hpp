// What top-k leaves of a row, gathered while the row is read once; then the other filters among the few.
//
// Scores are gathered as they are read, before the temperature divides them: as
// two of them that differ may be equals when divided, some more than k are kept until then.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sampling/filters.hpp"
#include "simd/tier.hpp"

namespace edgespec::sampling {

using simd::Choice;
using simd::Noise;

template <class T>
class Shortlist {
 public:
    explicit Shortlist(const Tier& tier) : loops_(tier.loops<T>()), filters_(tier) {}

    // Temperatures for which `add` keeps enough.
    static bool bears(T temperature) { return temperature >= T(0x1p-20) && temperature <= T(0x1p20); }

    void reserve(std::size_t count);  // for rows of `count` scores
    void clear(std::size_t k);
    // The next scores z [count] of the row, those of the tokens from `first_token` on; count <= kTile.
    void add(const T* z, std::size_t count, std::size_t first_token);
    // Divides by the temperature, drops what the filters drop, and folds what is left, with noise, into `choice`.
    void choose(T temperature, const FilterSettings& settings, const Noise& noise, Choice<T>& choice);

    static constexpr std::size_t kTile = 1024;

 private:
    T kth_best();
    void keep_from(T score);

    const RowLoops<T>& loops_;
    Filters<T> filters_;
    std::size_t k_ = 0, filled_ = 0, limit_ = 0;
    T from_ = 0;
    std::vector<T> scores_, sorted_;
    std::vector<std::int32_t> tokens_;  // rising
};

}  // namespace edgespec::sampling
