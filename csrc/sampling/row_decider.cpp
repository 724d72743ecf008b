#include "sampling/row_decider.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace edgespec::sampling {

namespace {

constexpr float kNone = std::numeric_limits<float>::quiet_NaN();

template <class T>
constexpr Choice<T> kNothing{-std::numeric_limits<T>::infinity(), -std::numeric_limits<T>::infinity(), -1};

}  // namespace

template <class T>
Way way_of(const VerifyInput& in, std::size_t session) {
    const Samplings& how = in.samplings;
    const auto temperature = static_cast<T>(how.temperatures[session]);
    if (temperature == 0) return Way::greedy;
    if (!Shortlist<T>::bears(temperature)) return Way::filtered;
    const std::int32_t k = how.top_k[session];
    if (k > 0 && static_cast<std::size_t>(k) < in.vocabulary) return Way::listed;
    return how.top_p[session] < 1 || how.min_p[session] > 0 ? Way::filtered : Way::noisy;
}

template Way way_of<float>(const VerifyInput&, std::size_t);
template Way way_of<double>(const VerifyInput&, std::size_t);

template <class T>
void RowDecider<T>::reserve() {
    bool filtered = false, listed = false;
    for (std::size_t session = 0; session < in_.trees.sessions; ++session) {
        filtered = filtered || way_of<T>(in_, session) == Way::filtered;
        listed = listed || way_of<T>(in_, session) == Way::listed;
    }
    const bool copied = in_.biases.offsets != nullptr || in_.seen.offsets != nullptr;
    if (filtered || copied) scores_.reserve(in_.vocabulary);
    if (filtered) filters_.reserve(in_.vocabulary);
    if (listed) shortlist_.reserve(in_.vocabulary);
}

template <class T>
Decision RowDecider<T>::decide(std::size_t session, std::size_t row) {
    const std::size_t count = in_.vocabulary;
    temperature_ = static_cast<T>(in_.samplings.temperatures[session]);
    way_ = way_of<T>(in_, session);
    noise_ = {temperature_ != 0, in_.samplings.seeds[session], static_cast<std::uint32_t>(in_.positions[row])};
    if (way_ == Way::listed) shortlist_.clear(static_cast<std::size_t>(in_.samplings.top_k[session]));
    const bool copied = penalised(session, row);
    if (copied || way_ == Way::filtered) scores_.resize(count);
    Mass<T> mass{std::numeric_limits<T>::lowest(), 0};
    Choice<T> best = kNothing<T>;
    for (std::size_t first = 0; first < count; first += kTile) {
        const std::size_t length = std::min(kTile, count - first);
        const T* z = tile(row, first, length);
        if (copied) {
            loops_.add_mass(z, length, mass);
            std::copy_n(z, length, scores_.data() + first);
        } else {
            take(z, length, first, best, &mass);
        }
    }
    const double logsumexp = mass.top + std::log(mass.sum);
    if (!std::isfinite(logsumexp)) return {-1, kNone, kNone};
    if (copied) {
        penalise(session, row);
        for (std::size_t first = 0; first < count; first += kTile) {
            take(scores_.data() + first, std::min(kTile, count - first), first, best, nullptr);
        }
    }
    best = conclude(session, best);
    if (best.token < 0) return {-1, kNone, kNone};
    const T raw = *tile(row, static_cast<std::size_t>(best.token), 1);
    return {best.token, static_cast<float>(raw - logsumexp), static_cast<float>(best.best - best.second)};
}

// The row's logits [count] from token `first` on, as T.
template <class T>
const T* RowDecider<T>::tile(std::size_t row, std::size_t first, std::size_t count) {
    const void* from = static_cast<const char*>(in_.logits) + (row * in_.vocabulary + first) * size_of(in_.type);
    if constexpr (sizeof(T) == sizeof(double)) {
        return static_cast<const double*>(from);
    } else {
        if (in_.type == Type::float32) return static_cast<const float*>(from);
        tier_.widen(in_.type, from, count, tile_);
        return tile_;
    }
}

template <class T>
bool RowDecider<T>::penalised(std::size_t session, std::size_t row) const {
    const bool biased = in_.biases.begin(row) < in_.biases.end(row);
    const bool seen = in_.seen.begin(row) < in_.seen.end(row);
    return biased || (seen && in_.samplings.penalties[session] != 1);
}

template <class T>
void RowDecider<T>::penalise(std::size_t session, std::size_t row) {
    for (auto i = in_.biases.begin(row); i < in_.biases.end(row); ++i) {
        scores_[static_cast<std::size_t>(in_.biases.ids[i])] += static_cast<T>(in_.biases.values[i]);
    }
    const T penalty = static_cast<T>(in_.samplings.penalties[session]);
    if (penalty == 1) return;
    for (auto i = in_.seen.begin(row); i < in_.seen.end(row); ++i) {
        T& score = scores_[static_cast<std::size_t>(in_.seen.ids[i])];
        score = score < 0 ? score * penalty : score / penalty;
    }
}

// A tile of the scores, penalised; mass: takes them too, where one is given.
template <class T>
void RowDecider<T>::take(const T* z, std::size_t count, std::size_t first, Choice<T>& best, Mass<T>* mass) {
    if (way_ == Way::greedy || way_ == Way::noisy) {
        return loops_.choose(z, count, static_cast<std::uint32_t>(first), temperature_, noise_, best, mass);
    }
    if (mass != nullptr) loops_.add_mass(z, count, *mass);
    if (way_ == Way::listed) return shortlist_.add(z, count, first);
    loops_.divide(z, count, temperature_, scores_.data() + first);
}

template <class T>
Choice<T> RowDecider<T>::conclude(std::size_t session, const Choice<T>& best) {
    const Samplings& how = in_.samplings;
    const FilterSettings settings{how.top_k[session], how.top_p[session], how.min_p[session]};
    if (way_ == Way::greedy || way_ == Way::noisy) return best;
    Choice<T> choice = kNothing<T>;
    if (way_ == Way::listed) {
        shortlist_.choose(temperature_, settings, noise_, choice);
    } else {
        filters_.apply(scores_.data(), scores_.size(), settings);
        loops_.choose(scores_.data(), scores_.size(), 0, 1, noise_, choice, nullptr);
    }
    return choice;
}

template class RowDecider<float>;
template class RowDecider<double>;

}  // namespace edgespec::sampling
