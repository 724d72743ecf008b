#include "noise/gumbel.hpp"

#include <algorithm>
#include <cstring>

#include "noise/philox.hpp"

// One body, compiled for several widths of vector; which one runs changes no bit. (Not under a sanitizer: those do not
// bear functions that are chosen while the program loads.)
#if defined(__x86_64__) && defined(__GLIBC__) && __has_attribute(target_clones) && !defined(EDGESPEC_SANITIZE)
#define EDGESPEC_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EDGESPEC_VECTORS
#endif
#define EDGESPEC_INLINE inline __attribute__((always_inline))

namespace edgespec::noise {

namespace {

constexpr std::size_t kCounters = 16;
constexpr std::size_t kWords = 4 * kCounters;

EDGESPEC_INLINE double from_bits(std::uint64_t bits) {
    double value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

EDGESPEC_INLINE std::uint64_t to_bits(double value) {
    std::uint64_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// ln(1 + f) for |f| <= sqrt(2) - 1: 2 atanh(s) with s = f / (2 + f), as a series in s^2 <= 0.0295; relative error
// below 1e-14.
EDGESPEC_INLINE double log_near_one(double f) {
    const double s = f / (2.0 + f), t = s * s;
    const double series =
        ((((((((t / 17 + 1.0 / 15) * t + 1.0 / 13) * t + 1.0 / 11) * t + 1.0 / 9) * t + 1.0 / 7) * t + 1.0 / 5) * t +
          1.0 / 3) *
             t +
         1.0);
    return 2.0 * s * series;
}

// ln(x), x normal and positive. x = m 2^k with m from sqrt(1/2) to sqrt(2); `minus_one`, if k is 0, is x - 1 given
// without rounding.
EDGESPEC_INLINE double log_of(double x, double minus_one) {
    constexpr std::uint64_t kRootHalf = 0x3fe6a09e667f3bcd, kOne = 0x3ff0000000000000, kMantissa = 0x000fffffffffffff;
    constexpr std::uint64_t kTwo52 = 0x4330000000000000;
    const std::uint64_t bits = to_bits(x) + (kOne - kRootHalf);
    const double k = from_bits((bits >> 52) | kTwo52) - (0x1p52 + 1023);
    const double m = from_bits((bits & kMantissa) + kRootHalf);
    const double f = k == 0.0 ? minus_one : m - 1.0;
    return k * 0.693147180559945309417 + log_near_one(f);
}

EDGESPEC_INLINE float uniform_of(std::uint32_t word) {
    constexpr float kBelowOne = 0x1.fffffep-1f;
    const double centered = static_cast<double>(static_cast<std::int32_t>(word ^ 0x80000000u));
    const float rounded = static_cast<float>((centered + 2147483648.5) * 0x1p-32);
    return rounded < kBelowOne ? rounded : kBelowOne;
}

EDGESPEC_INLINE float gumbel_of(std::uint32_t word) {
    const double u = uniform_of(word);
    const double w = static_cast<float>(-log_of(1.0 - u, -u));
    return static_cast<float>(-log_of(w, w - 1.0));
}

// The noise of the 64 tokens from 4 * first_counter on.
EDGESPEC_VECTORS void fill_tokens(Key key, std::uint32_t position, std::uint32_t first_counter, float* out) {
    std::uint32_t words[kWords];
    for (std::uint32_t i = 0; i < kCounters; ++i) {
        const Counter four = philox4x32_10({first_counter + i, position, 0, 0}, key);
        for (std::size_t word = 0; word < 4; ++word) words[4 * i + word] = four[word];
    }
    for (std::size_t i = 0; i < kWords; ++i) out[i] = gumbel_of(words[i]);
}

}  // namespace

std::uint32_t noise_word(std::uint64_t seed, std::uint32_t position, std::uint32_t token) {
    const Key key = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
    return philox4x32_10({token / 4, position, 0, 0}, key)[token % 4];
}

float gumbel(std::uint32_t word) { return gumbel_of(word); }

void fill_gumbel(std::uint64_t seed, std::uint32_t position, std::uint32_t first_token, std::size_t count, float* out) {
    const Key key = {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
    std::uint32_t counter = first_token / 4;
    std::size_t skip = first_token % 4;
    while (count > 0) {
        const std::size_t taken = std::min(count, kWords - skip);
        if (taken == kWords) {
            fill_tokens(key, position, counter, out);
        } else {
            float some[kWords];
            fill_tokens(key, position, counter, some);
            std::copy_n(some + skip, taken, out);
        }
        out += taken;
        count -= taken;
        counter += kCounters;
        skip = 0;
    }
}

}  // namespace edgespec::noise
