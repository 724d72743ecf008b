#include "sampling/shortlist.hpp"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

namespace edgespec::sampling {

template <class T>
void Shortlist<T>::reserve(std::size_t count) {
    const std::size_t most = 2 * (count + kTile);  // `limit_` doubles what ties have filled, and a tile may follow
    scores_.reserve(most);
    tokens_.reserve(most);
    sorted_.reserve(count);
    filters_.reserve(count);
}

template <class T>
void Shortlist<T>::clear(std::size_t k) {
    k_ = k;
    filled_ = 0;
    limit_ = std::max<std::size_t>(2 * k, kTile);
    from_ = std::numeric_limits<T>::lowest();
    if (scores_.size() < limit_ + kTile) {
        scores_.resize(limit_ + kTile);
        tokens_.resize(scores_.size());
    }
}

template <class T>
void Shortlist<T>::add(const T* z, std::size_t count, std::size_t first_token) {
    filled_ += loops_.collect(z, count, static_cast<std::uint32_t>(first_token), from_, scores_.data() + filled_,
                              tokens_.data() + filled_);
    if (filled_ < limit_) return;
    // What is less than a millionth below the k-th best may be its equal when divided.
    const T kth = kth_best();
    from_ = kth - std::max(std::fabs(kth) * T(0x1p-20), T(1e-30));
    keep_from(from_);
    if (filled_ >= limit_) {  // ties
        limit_ = 2 * filled_;
        scores_.resize(limit_ + kTile);
        tokens_.resize(scores_.size());
    }
}

template <class T>
void Shortlist<T>::choose(T temperature, const FilterSettings& settings, const Noise& noise, Choice<T>& choice) {
    if (filled_ > k_) {
        const T kth = kth_best();
        keep_from(kth - std::max(std::fabs(kth) * T(0x1p-20), T(1e-30)));
    }
    if (temperature != 1) loops_.divide(scores_.data(), filled_, temperature, scores_.data());
    if (filled_ > k_) keep_from(kth_best());
    if (filled_ > 0) filters_.apply(scores_.data(), filled_, {0, settings.top_p, settings.min_p});
    loops_.choose_listed(scores_.data(), tokens_.data(), filled_, noise, choice);
}

template <class T>
T Shortlist<T>::kth_best() {
    sorted_.assign(scores_.begin(), scores_.begin() + static_cast<std::ptrdiff_t>(filled_));
    const auto kth = sorted_.begin() + static_cast<std::ptrdiff_t>(k_ - 1);
    std::nth_element(sorted_.begin(), kth, sorted_.end(), std::greater<T>());
    return *kth;
}

template <class T>
void Shortlist<T>::keep_from(T score) {
    std::size_t kept = 0;
    for (std::size_t i = 0; i < filled_; ++i) {
        scores_[kept] = scores_[i];
        tokens_[kept] = tokens_[i];
        kept += scores_[i] >= score;
    }
    filled_ = kept;
}

template class Shortlist<float>;
template class Shortlist<double>;

}  // namespace edgespec::sampling
