// The loops over one row's scores, apart from the choice of the best (choice.hpp).
#pragma once

#include "simd/row_sums.hpp"

namespace edgespec::simd::EDGESPEC_TIER {

// Tokens that are passed over together where none of them matters.
constexpr std::size_t kGroupTokens = 64;

template <class T>
void divide(const T* z, std::size_t count, T by, T* out) {
    for (std::size_t i = 0; i < count; ++i) out[i] = z[i] / by;
}

template <class T>
void add_mass(const T* z, std::size_t count, Mass<T>& mass) {
    add_mass_below(z, count, max_of(z, count, mass.top), mass);
}

template <class T>
void weigh(const T* z, std::size_t count, T top, T* weights) {
    for (std::size_t i = 0; i < count; i += kLanesOf<T>) {
        const std::size_t n = count - i < kLanesOf<T> ? count - i : kLanesOf<T>;
        const Vector<T> own = exp_of(load_some(z + i, n) - top);
        std::memcpy(weights + i, &own, n * sizeof(T));
    }
}

template <class T>
double mass_from(const T* z, const T* weights, std::size_t count, T from, std::size_t& number) {
    number = 0;
    for (std::size_t i = 0; i < count; ++i) number += z[i] >= from;
    return sum_terms<T>(count, [=](std::size_t i, std::size_t n) {
        return load_some(z + i, n) >= from ? load_some(weights + i, n) : Vector<T>{};
    });
}

template <class T>
EDGESPEC_INLINE bool any_from(const T* z, T from) {
    int found = 0;
    for (std::size_t i = 0; i < kGroupTokens; ++i) found |= z[i] >= from;
    return found != 0;
}

template <class T>
std::size_t collect(const T* z, std::size_t count, std::uint32_t first_token, T from, T* out, std::int32_t* tokens) {
    std::size_t filled = 0;
    for (std::size_t i = 0; i < count; i += kGroupTokens) {
        const std::size_t end = count - i < kGroupTokens ? count : i + kGroupTokens;
        if (end - i == kGroupTokens && !any_from(z + i, from)) continue;
        for (std::size_t k = i; k < end; ++k) {
            out[filled] = z[k];
            tokens[filled] = static_cast<std::int32_t>(first_token + k);
            filled += z[k] >= from;
        }
    }
    return filled;
}

template <class T>
void mask(T* z, std::size_t count, T value, std::size_t first) {
    const T none = -static_cast<T>(__builtin_inf());
    const std::size_t low = first < count ? first : count;
    for (std::size_t i = 0; i < low; ++i) z[i] = z[i] > value ? z[i] : none;
    for (std::size_t i = low; i < count; ++i) z[i] = z[i] >= value ? z[i] : none;
}

inline void widen(Type type, const void* from, std::size_t count, float* to) {
    const auto* words = static_cast<const std::uint16_t*>(from);
    if (type == Type::float32) {
        std::memcpy(to, from, count * sizeof *to);
    } else if (type == Type::bfloat16) {
        for (std::size_t i = 0; i < count; ++i) to[i] = bits_to_float(std::uint32_t{words[i]} << 16);
    } else {
        for (std::size_t i = 0; i < count; ++i) to[i] = from_half(words[i]);
    }
}

}  // namespace edgespec::simd::EDGESPEC_TIER
