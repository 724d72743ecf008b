// Vectors of the compiler's, as wide as one SIMD tier has them: what all loops of a tier are written in.
//
// tier_loops.cpp is compiled once for each tier, with EDGESPEC_TIER as the tier's name and EDGESPEC_LANE_BYTES as the
// width of its vectors. Everything it includes lies in a namespace of that name: the linker must never take a function
// compiled for one tier for that of another, which this processor may not run. A header by itself is of the baseline.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

#ifndef EDGESPEC_TIER
#define EDGESPEC_TIER baseline
#define EDGESPEC_LANE_BYTES 16
#endif

#define EDGESPEC_INLINE inline __attribute__((always_inline))

// EDGESPEC_SHUFFLE(Vector, a, b, places...): the elements of a and b at these places. GCC has Clang's builtin from
// version 12 on only, and Clang has not GCC's. EDGESPEC_UNROLL: before a loop of 16 turns at most.
#if defined(__clang__)
#define EDGESPEC_SHUFFLE(Vector, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#define EDGESPEC_UNROLL _Pragma("clang loop unroll(full)")
#else
#define EDGESPEC_SHUFFLE(Vector, a, b, ...) __builtin_shuffle(a, b, Vector{__VA_ARGS__})
#define EDGESPEC_UNROLL _Pragma("GCC unroll 16")
#endif

namespace edgespec::simd::EDGESPEC_TIER {

typedef float Floats __attribute__((vector_size(EDGESPEC_LANE_BYTES)));
typedef std::uint32_t Words __attribute__((vector_size(EDGESPEC_LANE_BYTES)));
typedef std::uint64_t Longs __attribute__((vector_size(EDGESPEC_LANE_BYTES)));

template <class T>
struct VectorOf {
    typedef T Vector __attribute__((vector_size(EDGESPEC_LANE_BYTES)));
};
template <class T>
using Vector = typename VectorOf<T>::Vector;

template <class T>
constexpr std::size_t kLanesOf = EDGESPEC_LANE_BYTES / sizeof(T);
constexpr std::size_t kLanes = kLanesOf<float>;

template <class To>
EDGESPEC_INLINE To load(const void* from) {
    To value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

// Up to a vector of values; the rest is 0.
template <class T>
EDGESPEC_INLINE Vector<T> load_some(const T* from, std::size_t count) {
    if (count >= kLanesOf<T>) return load<Vector<T>>(from);
    Vector<T> some{};
    std::memcpy(&some, from, count * sizeof(T));
    return some;
}

EDGESPEC_INLINE void store(float* to, Floats value) { std::memcpy(to, &value, sizeof value); }

EDGESPEC_INLINE float bits_to_float(std::uint32_t bits) { return load<float>(&bits); }

EDGESPEC_INLINE std::uint32_t float_to_bits(float value) { return load<std::uint32_t>(&value); }

// A float16 as float32: its exponent is moved by a product; infinity and NaN get theirs after it.
EDGESPEC_INLINE float from_half(std::uint16_t half) {
    const std::uint32_t magnitude = half & 0x7fffu, sign = (half & 0x8000u) << 16;
    const float value = bits_to_float(magnitude << 13) * 0x1p112f;
    const std::uint32_t special = magnitude >= 0x7c00u ? 0x7f800000u : 0u;
    return bits_to_float(float_to_bits(value) | special | sign);
}

// The bfloat16 in the low and in the high halves of words, as float32.
EDGESPEC_INLINE Floats low_halves(Words words) { return (Floats)(words << 16); }
EDGESPEC_INLINE Floats high_halves(Words words) { return (Floats)(words & 0xffff0000u); }

// All lanes of a vector, of 4 or 8 bytes each, joined by `op` in pairs.
template <class Vector, class Op>
EDGESPEC_INLINE auto fold(Vector v, Op op) {
#if EDGESPEC_LANE_BYTES == 64
#define EDGESPEC_SWAPPED(n)                                                                                         \
    (Vector) EDGESPEC_SHUFFLE(Words, (Words)v, (Words)v, n, 1 ^ n, 2 ^ n, 3 ^ n, 4 ^ n, 5 ^ n, 6 ^ n, 7 ^ n, 8 ^ n, \
                              9 ^ n, 10 ^ n, 11 ^ n, 12 ^ n, 13 ^ n, 14 ^ n, 15 ^ n)
    v = op(v, EDGESPEC_SWAPPED(8));
    v = op(v, EDGESPEC_SWAPPED(4));
#elif EDGESPEC_LANE_BYTES == 32
#define EDGESPEC_SWAPPED(n) \
    (Vector) EDGESPEC_SHUFFLE(Words, (Words)v, (Words)v, n, 1 ^ n, 2 ^ n, 3 ^ n, 4 ^ n, 5 ^ n, 6 ^ n, 7 ^ n)
    v = op(v, EDGESPEC_SWAPPED(4));
#else
#define EDGESPEC_SWAPPED(n) (Vector) EDGESPEC_SHUFFLE(Words, (Words)v, (Words)v, n, 1 ^ n, 2 ^ n, 3 ^ n)
#endif
    v = op(v, EDGESPEC_SWAPPED(2));
    if constexpr (sizeof(v[0]) == 4) v = op(v, EDGESPEC_SWAPPED(1));
#undef EDGESPEC_SWAPPED
    return v[0];
}

EDGESPEC_INLINE float sum_of(Floats v) {
    return fold(v, [](Floats a, Floats b) { return a + b; });
}

// exp(x) for x <= 87, relative error below 2e-7; 0 below -87, NaN stays NaN. Cephes' expf, by Moshier. No result is a
// denormal number: processors compute those ten times as slowly.
EDGESPEC_INLINE Floats exp_of(Floats x) {
    constexpr float kLog2 = 1.44269504089f;
#if EDGESPEC_LANE_BYTES == 64
    const Floats bounded = (Floats)_mm512_max_ps(_mm512_set1_ps(-87.0f), (__m512)x);  // NaN stays
    const Floats n = (Floats)_mm512_roundscale_ps((__m512)(bounded * kLog2), _MM_FROUND_TO_NEAREST_INT);
#else
    constexpr float kMagic = 12582912.0f;
    const Floats bounded = x < -87.0f ? Floats{} - 87.0f : x;
    const Floats shifted = bounded * kLog2 + kMagic;
    const Floats n = shifted - kMagic;
#endif
    const Floats r = bounded - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = r * 1.9875691500e-4f + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
#if EDGESPEC_LANE_BYTES == 64
    const Floats power = (Floats)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    const Floats power = p * (Floats)(((Words)shifted << 23) + 0x3f800000u);
#endif
    return x < -87.0f ? Floats{} : power;
}

EDGESPEC_INLINE Vector<double> exp_of(Vector<double> x) {
    for (std::size_t i = 0; i < kLanesOf<double>; ++i) x[i] = __builtin_exp(x[i]);
    return x;
}

}  // namespace edgespec::simd::EDGESPEC_TIER
