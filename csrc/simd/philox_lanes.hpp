// Philox4x32-10 (noise/philox.hpp) of many counters at once.
//
// A vector holds a word of each of its counters in the lower halves of 64-bit lanes, as the processor multiplies them;
// what stands in the upper halves is never looked at.
#pragma once

#include "simd/lanes.hpp"
#include "simd/tier.hpp"

namespace edgespec::simd::EDGESPEC_TIER {

constexpr std::size_t kHalfLanes = EDGESPEC_LANE_BYTES / sizeof(std::uint64_t);

// The products of the lower halves.
EDGESPEC_INLINE Longs multiply_halves(Longs x, std::uint32_t by) {
#if EDGESPEC_LANE_BYTES == 64
    return (Longs)_mm512_mul_epu32((__m512i)x, _mm512_set1_epi64(by));
#elif EDGESPEC_LANE_BYTES == 32
    return (Longs)_mm256_mul_epu32((__m256i)x, _mm256_set1_epi64x(by));
#elif defined(__SSE2__)
    return (Longs)_mm_mul_epu32((__m128i)x, _mm_set1_epi64x(by));
#elif defined(__ARM_NEON)
    return (Longs)vmull_u32(vmovn_u64((uint64x2_t)x), vdup_n_u32(by));
#else
    Longs product;
    for (std::size_t i = 0; i < kHalfLanes; ++i) product[i] = std::uint64_t{by} * static_cast<std::uint32_t>(x[i]);
    return product;
#endif
}

// What the ten rounds of all counters (n, position, 0, 0) of one noise share: of the first two rounds half is the
// same for every n.
struct Rounds {
    explicit Rounds(const Noise& noise) {
        auto k0 = static_cast<std::uint32_t>(noise.seed), k1 = static_cast<std::uint32_t>(noise.seed >> 32);
        for (auto& both : keys) {
            both[0] = Longs{} + k0;
            both[1] = Longs{} + k1;
            k0 += 0x9E3779B9u;
            k1 += 0xBB67AE85u;
        }
        const std::uint64_t left = std::uint64_t{kLeft} * (noise.position ^ static_cast<std::uint32_t>(noise.seed));
        keys[1][1] ^= left >> 32;
        keys[2][1] ^= left;
    }

    static constexpr std::uint32_t kLeft = 0xD2511F53u, kRight = 0xCD9E8D57u;
    Longs keys[10][2];
};

template <std::size_t kVectors>
struct Counters {
    Longs words[4][kVectors];
};

// The ten rounds of the counters whose n are words[0]; several vectors hide one another's latency.
template <std::size_t kVectors>
EDGESPEC_INLINE void philox_rounds(const Rounds& rounds, Counters<kVectors>& counters) {
    auto& c = counters.words;
    const auto& keys = rounds.keys;
    EDGESPEC_UNROLL
    for (std::size_t i = 0; i < kVectors; ++i) {
        const Longs left = multiply_halves(c[0][i], Rounds::kLeft);
        const Longs right = multiply_halves((left >> 32) ^ keys[0][1], Rounds::kRight);
        c[0][i] = (right >> 32) ^ keys[1][0];
        c[1][i] = right;
        c[2][i] = left ^ keys[1][1];
        c[3][i] = Longs{};
    }
    for (std::size_t round = 2; round < 10; ++round) {
        EDGESPEC_UNROLL
        for (std::size_t i = 0; i < kVectors; ++i) {
            const Longs left = multiply_halves(c[0][i], Rounds::kLeft),
                        right = multiply_halves(c[2][i], Rounds::kRight);
            c[0][i] = (right >> 32) ^ c[1][i] ^ keys[round][0];
            c[1][i] = right;
            c[2][i] = (left >> 32) ^ c[3][i] ^ keys[round][1];
            c[3][i] = left;
        }
    }
}

EDGESPEC_INLINE Longs pairs_of(Longs first, Longs second) { return (first & 0xffffffffu) | second << 32; }

constexpr std::size_t kNoiseVectors = EDGESPEC_LANE_BYTES == 16 ? 8 : 4;
constexpr std::size_t kVectorTokens = 4 * kHalfLanes;
constexpr std::size_t kNoiseTokens = kNoiseVectors * kVectorTokens;

// The rounds of the kNoiseTokens tokens from 4 * first_counter on.
EDGESPEC_INLINE void philox_tokens(const Rounds& rounds, std::uint32_t first_counter,
                                   Counters<kNoiseVectors>& counters) {
    std::uint64_t steps[kHalfLanes];
    for (std::size_t k = 0; k < kHalfLanes; ++k) steps[k] = k;
    const Longs first = load<Longs>(steps) + first_counter;
    for (std::size_t i = 0; i < kNoiseVectors; ++i) counters.words[0][i] = first + i * kHalfLanes;
    philox_rounds(rounds, counters);
}

EDGESPEC_INLINE Words lower(Words a, Words b) { return a < b ? a : b; }

// Whether one of the counters' words is below `limit`.
EDGESPEC_INLINE bool any_word_below(const Counters<kNoiseVectors>& counters, std::uint64_t limit) {
    const auto& c = counters.words;
    Words lowest[kNoiseVectors];
    EDGESPEC_UNROLL
    for (std::size_t i = 0; i < kNoiseVectors; ++i) {
        lowest[i] = lower(lower((Words)c[0][i], (Words)c[1][i]), lower((Words)c[2][i], (Words)c[3][i]));
    }
    EDGESPEC_UNROLL
    for (std::size_t i = 1; i < kNoiseVectors; ++i) lowest[0] = lower(lowest[0], lowest[i]);
    const Longs halves = (Longs)lowest[0] & 0xffffffffu;
#if EDGESPEC_LANE_BYTES == 64
    return _mm512_cmplt_epu64_mask((__m512i)halves, _mm512_set1_epi64(static_cast<long long>(limit))) != 0;
#else
    return fold(halves < limit, [](auto a, auto b) { return a | b; }) != 0;
#endif
}

// The counters' words in the order of their tokens.
EDGESPEC_INLINE void store_words(const Counters<kNoiseVectors>& counters, std::uint32_t* words) {
    const auto& c = counters.words;
    EDGESPEC_UNROLL
    for (std::size_t i = 0; i < kNoiseVectors; ++i) {
        const Longs a = pairs_of(c[0][i], c[1][i]), b = pairs_of(c[2][i], c[3][i]);
#if EDGESPEC_LANE_BYTES == 64
        const Longs low = EDGESPEC_SHUFFLE(Longs, a, b, 0, 8, 1, 9, 2, 10, 3, 11);
        const Longs high = EDGESPEC_SHUFFLE(Longs, a, b, 4, 12, 5, 13, 6, 14, 7, 15);
#elif EDGESPEC_LANE_BYTES == 32
        const Longs low = EDGESPEC_SHUFFLE(Longs, a, b, 0, 4, 1, 5), high = EDGESPEC_SHUFFLE(Longs, a, b, 2, 6, 3, 7);
#else
        const Longs low = EDGESPEC_SHUFFLE(Longs, a, b, 0, 2), high = EDGESPEC_SHUFFLE(Longs, a, b, 1, 3);
#endif
        std::memcpy(words + i * kVectorTokens, &low, sizeof low);
        std::memcpy(words + i * kVectorTokens + 2 * kHalfLanes, &high, sizeof high);
    }
}

// The words of some tokens [kNoiseVectors * kHalfLanes], in any order.
constexpr std::size_t kListedTokens = kNoiseVectors * kHalfLanes;

EDGESPEC_INLINE void philox_listed(const Rounds& rounds, const std::int32_t* tokens, std::uint32_t* words) {
    Counters<kNoiseVectors> counters;
    std::uint64_t four[4][kListedTokens];
    for (std::size_t k = 0; k < kListedTokens; ++k) four[0][k] = static_cast<std::uint32_t>(tokens[k]) / 4;
    std::memcpy(counters.words[0], four[0], sizeof four[0]);
    philox_rounds(rounds, counters);
    std::memcpy(four, counters.words, sizeof four);
    for (std::size_t k = 0; k < kListedTokens; ++k) {
        words[k] = static_cast<std::uint32_t>(four[static_cast<std::uint32_t>(tokens[k]) % 4][k]);
    }
}

}  // namespace edgespec::simd::EDGESPEC_TIER
