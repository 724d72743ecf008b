// The loops of one Level; a level_*.cpp names the level and its width of vectors and includes this.
//
// Plain loops over blocks of fixed length, which the compiler turns into the level's vectors. Everything is in an
// unnamed namespace (see level.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "sampling/gumbel.hpp"
#include "sampling/level.hpp"

#define EDGESPEC_INLINE inline __attribute__((always_inline))

namespace edgespec::sampling {

namespace {

EDGESPEC_INLINE float bits_to_float(std::uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

EDGESPEC_INLINE std::uint32_t float_to_bits(float value) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// A float16 as float32: its exponent is moved by a product; infinity and NaN get theirs after it.
EDGESPEC_INLINE float from_half(std::uint16_t half) {
    const std::uint32_t magnitude = half & 0x7fffu, sign = (half & 0x8000u) << 16;
    const float value = bits_to_float(magnitude << 13) * 0x1p112f;
    const std::uint32_t special = magnitude >= 0x7c00u ? 0x7f800000u : 0u;
    return bits_to_float(float_to_bits(value) | special | sign);
}

#include "sampling/level_products.hpp"

constexpr std::size_t kBlock = 64;

// exp(x) for x <= 0, relative error below 2e-7; 0 below -87, NaN stays NaN. Cephes' expf, by Moshier.
EDGESPEC_INLINE float exp_of(float x) {
    const float bounded = x < -87.0f ? -87.0f : x;
    const float shifted = bounded * 1.44269504089f + 12582912.0f;
    const float n = shifted - 12582912.0f;
    const float r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const float power = bits_to_float((float_to_bits(shifted) << 23) + 0x3f800000u);
    return x < -87.0f ? 0.0f : p * power;
}

EDGESPEC_INLINE double exp_of(double x) { return __builtin_exp(x); }

template <class T>
void divide(const T* z, std::size_t count, T by, T* out) {
    for (std::size_t i = 0; i < count; ++i) out[i] = z[i] / by;
}

template <class T>
EDGESPEC_INLINE T max_of(const T* z, std::size_t count, T top) {
    T lanes[16];
    for (T& lane : lanes) lane = top;
    std::size_t i = 0;
    for (; i + 16 <= count; i += 16) {
        for (std::size_t k = 0; k < 16; ++k) lanes[k] = z[i + k] > lanes[k] ? z[i + k] : lanes[k];
    }
    for (; i < count; ++i) lanes[0] = z[i] > lanes[0] ? z[i] : lanes[0];
    for (const T lane : lanes) top = lane > top ? lane : top;
    return top;
}

// Sums of 1024 terms are kept in T, those of more in double.
template <class T, class Term>
EDGESPEC_INLINE double sum_terms(std::size_t count, Term term) {
    double sum = 0;
    std::size_t i = 0;
    while (i + 16 <= count) {
        T lanes[16] = {};
        const std::size_t end = count - i < 1024 ? count : i + 1024;
        for (; i + 16 <= end; i += 16) {
            for (std::size_t k = 0; k < 16; ++k) lanes[k] += term(i + k);
        }
        for (const T lane : lanes) sum += lane;
    }
    for (; i < count; ++i) sum += term(i);
    return sum;
}

template <class T>
void add_mass(const T* z, std::size_t count, Mass<T>& mass) {
    const T top = max_of(z, count, mass.top);
    mass.sum =
        mass.sum * exp_of(mass.top - top) + sum_terms<T>(count, [=](std::size_t i) { return exp_of(z[i] - top); });
    mass.top = top;
}

template <class T>
void weigh(const T* z, std::size_t count, T top, T* weights) {
    for (std::size_t i = 0; i < count; ++i) weights[i] = exp_of(z[i] - top);
}

template <class T>
double mass_from(const T* z, const T* weights, std::size_t count, T from, std::size_t& number) {
    number = 0;
    for (std::size_t i = 0; i < count; ++i) number += z[i] >= from;
    return sum_terms<T>(count, [=](std::size_t i) { return z[i] >= from ? weights[i] : T{0}; });
}

template <class T>
EDGESPEC_INLINE bool any_above(const T* z, T above) {
    int found = 0;
    for (std::size_t i = 0; i < kBlock; ++i) found |= z[i] > above;
    return found != 0;
}

template <class T>
EDGESPEC_INLINE bool any_from(const T* z, T from) {
    int found = 0;
    for (std::size_t i = 0; i < kBlock; ++i) found |= z[i] >= from;
    return found != 0;
}

template <class T>
std::size_t collect(const T* z, std::size_t count, std::uint32_t first_token, T from, T* out, std::int32_t* tokens) {
    std::size_t filled = 0;
    for (std::size_t i = 0; i < count; i += kBlock) {
        const std::size_t end = count - i < kBlock ? count : i + kBlock;
        if (end - i == kBlock && !any_from(z + i, from)) continue;
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

#include "sampling/level_noise.hpp"

// No noise exceeds it.
constexpr float kLargestGumbel = 22.9f;

// At least the noise of `word` and at most 0.1 more where that is large: g <= -ln u, and log2 of a float is at least
// its bits read as a fixed-point number.
EDGESPEC_INLINE float gumbel_bound(std::uint32_t word) {
    const auto x = static_cast<float>(static_cast<std::int32_t>(word >> 1)) * 2.0f + 0.25f;
    const auto log2 = static_cast<float>(static_cast<std::int32_t>(float_to_bits(x))) * 0x1p-23f - 127.0f;
    return (32.0f - log2) * 0.693147181f + 0.01f;
}

template <class T>
EDGESPEC_INLINE T slack_of(T score) {
    return (score < 0 ? -score : score) * static_cast<T>(1e-6);
}

template <class T>
EDGESPEC_INLINE void offer(T score, std::uint32_t token, Choice<T>& choice) {
    if (score > choice.best) {
        choice.second = choice.best;
        choice.best = score;
        choice.token = static_cast<std::int32_t>(token);
    } else if (score > choice.second) {
        choice.second = score;
    }
}

// One block of 64 scores. A token whose score and bound do not beat the second-best so far needs no logarithm.
template <class T>
EDGESPEC_INLINE void choose_block(const T* z, std::uint32_t first_token, const Noise& noise, Choice<T>& choice) {
    if (!noise.any) {
        if (!any_above(z, choice.second)) return;
        for (std::uint32_t i = 0; i < kBlock; ++i) offer(z[i], first_token + i, choice);
        return;
    }
    T at_most[kBlock];
    for (std::size_t i = 0; i < kBlock; ++i) at_most[i] = z[i] + slack_of(z[i]) + kLargestGumbel;
    if (!any_above(at_most, choice.second)) return;
    std::uint32_t words[kBlock];
    philox_block(noise, first_token / 4, words);
    for (std::size_t i = 0; i < kBlock; ++i) at_most[i] = z[i] + slack_of(z[i]) + gumbel_bound(words[i]);
    if (!any_above(at_most, choice.second)) return;
    for (std::uint32_t i = 0; i < kBlock; ++i) {
        if (at_most[i] > choice.second) offer(z[i] + gumbel(words[i]), first_token + i, choice);
    }
}

template <class T>
void choose(const T* z, std::size_t count, std::uint32_t first_token, const Noise& noise, Choice<T>& choice) {
    std::size_t i = 0;
    for (; i + kBlock <= count; i += kBlock) {
        choose_block(z + i, first_token + static_cast<std::uint32_t>(i), noise, choice);
    }
    if (i == count) return;
    T rest[kBlock];
    for (std::size_t k = 0; k < kBlock; ++k) rest[k] = i + k < count ? z[i + k] : -static_cast<T>(__builtin_inf());
    choose_block(rest, first_token + static_cast<std::uint32_t>(i), noise, choice);
}

void widen(Type type, const void* from, std::size_t count, float* to) {
    const auto* words = static_cast<const std::uint16_t*>(from);
    if (type == Type::float32) {
        std::memcpy(to, from, count * sizeof *to);
    } else if (type == Type::bfloat16) {
        for (std::size_t i = 0; i < count; ++i) to[i] = bits_to_float(std::uint32_t{words[i]} << 16);
    } else {
        for (std::size_t i = 0; i < count; ++i) to[i] = from_half(words[i]);
    }
}

template <class T>
void choose_listed(const T* z, const std::int32_t* tokens, std::size_t count, const Noise& noise, Choice<T>& choice) {
    for (std::size_t i = 0; i < count; i += kBlock) {
        const std::size_t length = count - i < kBlock ? count - i : kBlock;
        std::uint32_t counters[kBlock] = {}, words[4][kBlock];
        for (std::size_t k = 0; k < length; ++k) counters[k] = static_cast<std::uint32_t>(tokens[i + k]) / 4;
        philox_blocks<kBlock>(noise, counters, words);
        for (std::size_t k = 0; k < length; ++k) {
            const auto token = static_cast<std::uint32_t>(tokens[i + k]);
            const std::uint32_t word = words[token % 4][k];
            if (z[i + k] + slack_of(z[i + k]) + gumbel_bound(word) > choice.second) {
                offer(z[i + k] + gumbel(word), token, choice);
            }
        }
    }
}

template <class T>
constexpr RowLoops<T> row_loops() {
    return {divide<T>, add_mass<T>, choose<T>, choose_listed<T>, weigh<T>, mass_from<T>, collect<T>, mask<T>};
}

}  // namespace

extern const Level EDGESPEC_LEVEL;
const Level EDGESPEC_LEVEL = {EDGESPEC_LEVEL_NAME, packed_bytes,       pack, multiply, widen,
                              row_loops<float>(),  row_loops<double>()};

}  // namespace edgespec::sampling
