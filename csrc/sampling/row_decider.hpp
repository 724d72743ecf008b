// Decides rows of logits one at a time: what `verify` says behind each row.
//
// A row is read once, a tile at a time: its log-sum-exp is added up, and the tile's scores go where the sampling wants
// them: to the best so far (greedy, or with nothing filtered), to a shortlist (top-k), or into a row of scores that
// the other filters pass over. Rows with a bias or a penalty are copied first.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "sampling/filters.hpp"
#include "sampling/shortlist.hpp"
#include "sampling/verify.hpp"
#include "simd/tier.hpp"

namespace edgespec::sampling {

using simd::Mass;

struct Decision {
    std::int32_t token;  // -1: the row is not sound
    float logprob, margin;
};

// What becomes of a row's scores.
enum class Way { greedy, noisy, listed, filtered };

template <class T>
Way way_of(const VerifyInput& in, std::size_t session);

// T: of the scores.
template <class T>
class RowDecider {
 public:
    RowDecider(const VerifyInput& in, const Tier& tier)
        : in_(in), tier_(tier), loops_(tier.loops<T>()), filters_(tier), shortlist_(tier) {}

    // Takes all the memory that deciding these rows may need: a thread of the pool must not allocate.
    void reserve();

    Decision decide(std::size_t session, std::size_t row);

 private:
    static constexpr std::size_t kTile = Shortlist<T>::kTile;

    const T* tile(std::size_t row, std::size_t first, std::size_t count);
    bool penalised(std::size_t session, std::size_t row) const;
    void penalise(std::size_t session, std::size_t row);
    void take(const T* z, std::size_t count, std::size_t first, Choice<T>& best, Mass<T>* mass);
    Choice<T> conclude(std::size_t session, const Choice<T>& best);

    const VerifyInput& in_;
    const Tier& tier_;
    const RowLoops<T>& loops_;
    Filters<T> filters_;
    Shortlist<T> shortlist_;
    Way way_ = Way::greedy;
    T temperature_ = 0;
    Noise noise_{};
    alignas(64) T tile_[kTile];
    std::vector<T> scores_;
};

}  // namespace edgespec::sampling
