// The loops of one Level; a level_*.cpp names the level and its width of vectors and includes this.
//
// Plain loops over blocks of fixed length, which the compiler turns into the level's vectors. Everything is in an
// unnamed namespace (see level.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
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

#include "sampling/level_vectors.hpp"

template <class T>
void divide(const T* z, std::size_t count, T by, T* out) {
    for (std::size_t i = 0; i < count; ++i) out[i] = z[i] / by;
}

template <class T>
void add_mass(const T* z, std::size_t count, Mass<T>& mass) {
    const T top = max_of(z, count, mass.top);
    if (top != mass.top) mass.sum *= exp_of(Vector<T>{} + (mass.top - top))[0];
    mass.sum += sum_terms<T>(count, [=](std::size_t i, std::size_t n) { return exp_of(load_some(z + i, n) - top); });
    mass.top = top;
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

// Offers a block of 64 scores, those of the tokens from first_token on, with the noise of `words`. A token whose score
// and bound do not beat the second-best so far needs no logarithm.
template <class T>
EDGESPEC_INLINE void choose_noisy(const T* z, std::uint32_t first_token, T temperature, const std::uint32_t* words,
                                  Choice<T>& choice) {
    const T inverse = 1 / temperature;
    T at_most[kBlock];
    for (std::size_t i = 0; i < kBlock; ++i) {
        const T score = z[i] * inverse;  // to within its slack
        at_most[i] = score + slack_of(score) + gumbel_bound(words[i]);
    }
    if (!any_above(at_most, choice.second)) return;
    for (std::uint32_t i = 0; i < kBlock; ++i) {
        if (at_most[i] > choice.second) offer(z[i] / temperature + gumbel(words[i]), first_token + i, choice);
    }
}

// As many scores as a call of philox_tokens gives noise for, or kBlock of them without noise.
template <class T>
EDGESPEC_INLINE void choose_block(const T* z, std::uint32_t first_token, T temperature, const Noise& noise,
                                  Choice<T>& choice) {
    if (!noise.any) {
        if (!any_above(z, choice.second)) return;
        for (std::uint32_t i = 0; i < kBlock; ++i) offer(z[i], first_token + i, choice);
        return;
    }
    const T top = max_of(z, kNoiseTokens, -static_cast<T>(__builtin_inf())) / temperature;
    if (!(top + slack_of(top) + kLargestGumbel > choice.second)) return;
    std::uint32_t words[kNoiseTokens];
    philox_tokens(noise, first_token / 4, words);
    for (std::uint32_t i = 0; i < kNoiseTokens; i += kBlock)
        choose_noisy(z + i, first_token + i, temperature, words + i, choice);
}

template <class T>
void choose(const T* z, std::size_t count, std::uint32_t first_token, T temperature, const Noise& noise,
            Choice<T>& choice) {
    const std::size_t step = noise.any ? kNoiseTokens : kBlock;
    std::size_t i = 0;
    for (; i + step <= count; i += step) {
        choose_block(z + i, first_token + static_cast<std::uint32_t>(i), temperature, noise, choice);
    }
    if (i == count) return;
    T rest[kNoiseTokens];
    for (std::size_t k = 0; k < step; ++k) rest[k] = i + k < count ? z[i + k] : -static_cast<T>(__builtin_inf());
    choose_block(rest, first_token + static_cast<std::uint32_t>(i), temperature, noise, choice);
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
    for (std::size_t i = 0; i < count; i += kListedTokens) {
        const std::size_t length = count - i < kListedTokens ? count - i : kListedTokens;
        std::int32_t own[kListedTokens] = {};
        std::uint32_t words[kListedTokens];
        std::memcpy(own, tokens + i, length * sizeof *own);
        philox_listed(noise, own, words);
        for (std::size_t k = 0; k < length; ++k) {
            const T score = z[i + k];
            if (score + slack_of(score) + gumbel_bound(words[k]) > choice.second) {
                offer(score + gumbel(words[k]), static_cast<std::uint32_t>(own[k]), choice);
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
