// The best two of a row's scores, with noise or without.
//
// A token's noise costs ten rounds of Philox and two logarithms. The words come vectors at a time; the logarithms are
// worked out only for tokens that bounds cannot keep from being among the best two, so the choice is that of all.
#pragma once

#include "noise/gumbel.hpp"
#include "simd/philox_lanes.hpp"
#include "simd/row_loops.hpp"

namespace edgespec::simd::EDGESPEC_TIER {

template <std::size_t kLength, class T>
EDGESPEC_INLINE bool any_above(const T* z, T above) {
    int found = 0;
    for (std::size_t i = 0; i < kLength; ++i) found |= z[i] > above;
    return found != 0;
}

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

// Offers the scores of the kGroupTokens tokens from first_token on with the noise of `words`. A token whose score and
// bound do not beat the second-best so far needs no logarithm.
template <class T>
EDGESPEC_INLINE void choose_among(const T* z, std::uint32_t first_token, T temperature, const std::uint32_t* words,
                                  Choice<T>& choice) {
    const T inverse = 1 / temperature;
    T at_most[kGroupTokens];
    for (std::size_t i = 0; i < kGroupTokens; ++i) {
        const T score = z[i] * inverse;  // to within its slack
        at_most[i] = score + slack_of(score) + gumbel_bound(words[i]);
    }
    if (!any_above<kGroupTokens>(at_most, choice.second)) return;
    for (std::uint32_t i = 0; i < kGroupTokens; ++i) {
        if (at_most[i] > choice.second) offer(z[i] / temperature + noise::gumbel(words[i]), first_token + i, choice);
    }
}

// A tile of scores in blocks, each with its top, from the token `first_token` on; the last block may be shorter.
template <class T>
struct Tile {
    static constexpr std::size_t kLength = 1024, kBlocks = kLength / kNoiseTokens;
    static constexpr T kNever = -static_cast<T>(__builtin_inf());

    Tile(const T* scores, std::size_t length, std::uint32_t first) : z(scores), count(length), first_token(first) {
        blocks = (count + kNoiseTokens - 1) / kNoiseTokens;
        for (std::size_t b = 0; b < blocks; ++b) tops[b] = max_of(z + b * kNoiseTokens, length_of(b), kNever);
    }

    std::size_t length_of(std::size_t b) const {
        const std::size_t left = count - b * kNoiseTokens;
        return left < kNoiseTokens ? left : kNoiseTokens;
    }
    std::uint32_t token_of(std::size_t b) const { return first_token + static_cast<std::uint32_t>(b * kNoiseTokens); }
    // A block's scores, in `room` and with -inf behind them where it is shorter.
    const T* block(std::size_t b, T* room) const {
        const std::size_t length = length_of(b);
        if (length == kNoiseTokens) return z + b * kNoiseTokens;
        for (std::size_t i = 0; i < kNoiseTokens; ++i) room[i] = i < length ? z[b * kNoiseTokens + i] : kNever;
        return room;
    }

    const T* z;
    std::size_t count, blocks;
    std::uint32_t first_token;
    T tops[kBlocks];
};

template <class T>
EDGESPEC_INLINE void choose_best(const Tile<T>& tile, Choice<T>& choice) {
    T room[kNoiseTokens];
    for (std::size_t b = 0; b < tile.blocks; ++b) {
        if (!(tile.tops[b] > choice.second)) continue;
        const T* z = tile.block(b, room);
        for (std::uint32_t i = 0; i < kNoiseTokens; i += kGroupTokens) {
            if (!any_above<kGroupTokens>(z + i, choice.second)) continue;
            for (std::uint32_t k = i; k < i + kGroupTokens; ++k) offer(z[k], tile.token_of(b) + k, choice);
        }
    }
}

// A token that could be among the best two has a noise that brings its block's top there, and so a word below a limit:
// of most blocks nothing but words is worked out, without a branch that is hard to foresee.
template <class T>
EDGESPEC_INLINE void choose_noisy(const Tile<T>& tile, T temperature, const Noise& noise, Choice<T>& choice) {
    const Rounds rounds(noise);
    Counters<kNoiseVectors> counters[Tile<T>::kBlocks];
    bool near[Tile<T>::kBlocks];
    for (std::size_t b = 0; b < tile.blocks; ++b) {
        const T top = tile.tops[b] / temperature;
        const T needed = choice.second - top - slack_of(choice.second) - slack_of(top);
        const std::uint64_t limit = top == Tile<T>::kNever ? 0 : limit_of(needed);
        near[b] = limit != 0;
        if (!near[b]) continue;
        philox_tokens(rounds, tile.token_of(b) / 4, counters[b]);
        near[b] = any_word_below(counters[b], limit);
    }
    T room[kNoiseTokens];
    std::uint32_t words[kNoiseTokens];
    for (std::size_t b = 0; b < tile.blocks; ++b) {
        if (!near[b]) continue;
        store_words(counters[b], words);
        const T* z = tile.block(b, room);
        for (std::uint32_t i = 0; i < kNoiseTokens; i += kGroupTokens) {
            choose_among(z + i, tile.token_of(b) + i, temperature, words + i, choice);
        }
    }
}

template <class T>
void choose(const T* z, std::size_t count, std::uint32_t first_token, T temperature, const Noise& noise,
            Choice<T>& choice, Mass<T>* mass) {
    for (std::size_t i = 0; i < count; i += Tile<T>::kLength) {
        const std::size_t length = count - i < Tile<T>::kLength ? count - i : Tile<T>::kLength;
        const Tile<T> tile(z + i, length, first_token + static_cast<std::uint32_t>(i));
        if (mass != nullptr) {
            T top = mass->top;
            for (std::size_t b = 0; b < tile.blocks; ++b) top = tile.tops[b] > top ? tile.tops[b] : top;
            add_mass_below(tile.z, length, top, *mass);
        }
        if (noise.any) {
            choose_noisy(tile, temperature, noise, choice);
        } else {
            choose_best(tile, choice);
        }
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
                offer(score + noise::gumbel(words[k]), static_cast<std::uint32_t>(own[k]), choice);
            }
        }
    }
}

}  // namespace edgespec::simd::EDGESPEC_TIER
