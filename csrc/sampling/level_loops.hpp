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

// top: of z and of what was added before.
template <class T>
EDGESPEC_INLINE void add_mass_below(const T* z, std::size_t count, T top, Mass<T>& mass) {
    if (top != mass.top) mass.sum *= exp_of(Vector<T>{} + (mass.top - top))[0];
    mass.sum += sum_terms<T>(count, [=](std::size_t i, std::size_t n) { return exp_of(load_some(z + i, n) - top); });
    mass.top = top;
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

#include "sampling/level_choice.hpp"

template <class T>
constexpr RowLoops<T> row_loops() {
    return {divide<T>, add_mass<T>, choose<T>, choose_listed<T>, weigh<T>, mass_from<T>, collect<T>, mask<T>};
}

}  // namespace

extern const Level EDGESPEC_LEVEL;
const Level EDGESPEC_LEVEL = {EDGESPEC_LEVEL_NAME, packed_bytes,       pack, multiply, widen,
                              row_loops<float>(),  row_loops<double>()};

}  // namespace edgespec::sampling
