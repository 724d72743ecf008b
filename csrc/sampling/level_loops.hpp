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

template <std::size_t kLength, class T>
EDGESPEC_INLINE bool any_above(const T* z, T above) {
    int found = 0;
    for (std::size_t i = 0; i < kLength; ++i) found |= z[i] > above;
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

// No word from it on has more noise than `noise`: -ln u is no more from u = exp(-noise) on, and a power of two is at
// most what its exponent, as a fixed-point number, says when read as the bits of a float.
template <class T>
EDGESPEC_INLINE std::uint64_t limit_of(T noise) {
    if (noise >= kLargestGumbel) return 0;
    if (!(noise > T(0.02))) return std::uint64_t{1} << 32;
    const float log2 = 32.0f - (static_cast<float>(noise) - 0.01f) * 1.44269504f;
    const auto bits = static_cast<std::int32_t>((log2 + 127.0f) * 0x1p23f);
    return static_cast<std::uint64_t>(static_cast<std::int64_t>(bits_to_float(static_cast<std::uint32_t>(bits)))) + 1;
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

// Offers the scores of the kBlock tokens from first_token on with the noise of `words`. A token whose score and
// bound do not beat the second-best so far needs no logarithm.
template <class T>
EDGESPEC_INLINE void choose_among(const T* z, std::uint32_t first_token, T temperature, const std::uint32_t* words,
                                  Choice<T>& choice) {
    const T inverse = 1 / temperature;
    T at_most[kBlock];
    for (std::size_t i = 0; i < kBlock; ++i) {
        const T score = z[i] * inverse;  // to within its slack
        at_most[i] = score + slack_of(score) + gumbel_bound(words[i]);
    }
    if (!any_above<kBlock>(at_most, choice.second)) return;
    for (std::uint32_t i = 0; i < kBlock; ++i) {
        if (at_most[i] > choice.second) offer(z[i] / temperature + gumbel(words[i]), first_token + i, choice);
    }
}

// The limit of the block at z: to beat the second-best so far takes a noise that brings the block's top there.
template <class T>
EDGESPEC_INLINE std::uint64_t limit_for(const T* z, T temperature, T second) {
    constexpr T kNever = -static_cast<T>(__builtin_inf());
    const T top = max_of(z, kNoiseTokens, kNever) / temperature;
    if (top == kNever) return 0;
    return limit_of(second - top - slack_of(second) - slack_of(top));
}

// Blocks of kNoiseTokens tokens, the first of them first_token. A token that could be among the best two has a word
// below its block's limit: of most blocks nothing but words is worked out, without a branch that is hard to foresee.
constexpr std::size_t kNoiseBlocks = 8;

template <class T>
EDGESPEC_INLINE void choose_noisy(const T* z, std::size_t blocks, std::uint32_t first_token, T temperature,
                                  const Rounds& rounds, Choice<T>& choice) {
    Counters<kNoiseVectors> counters[kNoiseBlocks];
    bool near[kNoiseBlocks];
    for (std::uint32_t b = 0; b < blocks; ++b) {
        const std::uint64_t limit = limit_for(z + b * kNoiseTokens, temperature, choice.second);
        near[b] = limit != 0;
        if (!near[b]) continue;
        philox_tokens(rounds, first_token / 4 + b * static_cast<std::uint32_t>(kNoiseTokens / 4), counters[b]);
        near[b] = any_word_below(counters[b], limit);
    }
    for (std::uint32_t b = 0; b < blocks; ++b) {
        if (!near[b]) continue;
        std::uint32_t words[kNoiseTokens];
        store_words(counters[b], words);
        for (std::uint32_t i = 0; i < kNoiseTokens; i += kBlock) {
            const std::uint32_t at = b * static_cast<std::uint32_t>(kNoiseTokens) + i;
            choose_among(z + at, first_token + at, temperature, words + i, choice);
        }
    }
}

template <class T>
EDGESPEC_INLINE void choose_best(const T* z, std::size_t count, std::uint32_t first_token, Choice<T>& choice) {
    for (std::size_t i = 0; i < count; i += kBlock) {
        if (!any_above<kBlock>(z + i, choice.second)) continue;
        for (std::size_t k = i; k < i + kBlock; ++k) offer(z[k], first_token + static_cast<std::uint32_t>(k), choice);
    }
}

template <class T>
void choose(const T* z, std::size_t count, std::uint32_t first_token, T temperature, const Noise& noise,
            Choice<T>& choice) {
    const std::size_t step = noise.any ? kNoiseTokens : kBlock, whole = count - count % step;
    const auto choose_blocks = [&](const T* some, std::size_t length, std::uint32_t first) {
        if (!noise.any) return choose_best(some, length, first, choice);
        const Rounds rounds(noise);
        constexpr std::size_t kMost = kNoiseBlocks * kNoiseTokens;
        for (std::size_t i = 0; i < length; i += kMost) {
            const std::size_t blocks = (length - i < kMost ? length - i : kMost) / kNoiseTokens;
            choose_noisy(some + i, blocks, first + static_cast<std::uint32_t>(i), temperature, rounds, choice);
        }
    };
    choose_blocks(z, whole, first_token);
    if (whole == count) return;
    T rest[kNoiseTokens];
    for (std::size_t k = 0; k < step; ++k)
        rest[k] = whole + k < count ? z[whole + k] : -static_cast<T>(__builtin_inf());
    choose_blocks(rest, step, first_token + static_cast<std::uint32_t>(whole));
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
    const Rounds rounds(noise);
    for (std::size_t i = 0; i < count; i += kListedTokens) {
        const std::size_t length = count - i < kListedTokens ? count - i : kListedTokens;
        std::int32_t own[kListedTokens] = {};
        std::uint32_t words[kListedTokens];
        std::memcpy(own, tokens + i, length * sizeof *own);
        philox_listed(rounds, own, words);
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
