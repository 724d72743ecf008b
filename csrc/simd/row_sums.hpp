// Maxima and sums of a row's scores.
#pragma once

#include "simd/lanes.hpp"
#include "simd/tier.hpp"

namespace edgespec::simd::EDGESPEC_TIER {

template <class T>
EDGESPEC_INLINE T max_of(const T* z, std::size_t count, T top) {
    constexpr std::size_t kStep = kLanesOf<T>;
    Vector<T> tops = Vector<T>{} + top;
    const std::size_t whole = count - count % kStep;
    for (std::size_t i = 0; i < whole; i += kStep) {
        const Vector<T> own = load<Vector<T>>(z + i);
        tops = own > tops ? own : tops;
    }
    top = fold(tops, [](Vector<T> a, Vector<T> b) { return a > b ? a : b; });
    for (std::size_t i = whole; i < count; ++i) top = z[i] > top ? z[i] : top;
    return top;
}

// The sum of term(i) over [0, count), vectors of terms at a time: those of 1024 terms are kept in T, more in double.
// term(i, n): n terms from i on; those beyond them may be anything.
template <class T, class Term>
EDGESPEC_INLINE double sum_terms(std::size_t count, Term term) {
    constexpr std::size_t kStep = kLanesOf<T>;
    double sum = 0;
    std::size_t i = 0;
    while (i + kStep <= count) {
        Vector<T> sums{};
        const std::size_t end = count - i < 1024 ? count : i + 1024;
        for (; i + kStep <= end; i += kStep) sums += term(i, kStep);
        for (std::size_t k = 0; k < kStep; ++k) sum += sums[k];
    }
    if (i < count) {
        const Vector<T> rest = term(i, count - i);
        for (std::size_t k = 0; k < count - i; ++k) sum += rest[k];
    }
    return sum;
}

// top: of z and of what was added before.
template <class T>
EDGESPEC_INLINE void add_mass_below(const T* z, std::size_t count, T top, Mass<T>& mass) {
    if (top != mass.top) mass.sum *= exp_of(Vector<T>{} + (mass.top - top))[0];
    mass.sum += sum_terms<T>(count, [=](std::size_t i, std::size_t n) { return exp_of(load_some(z + i, n) - top); });
    mass.top = top;
}

}  // namespace edgespec::simd::EDGESPEC_TIER
