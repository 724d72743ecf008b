// The types of weights that row_products.hpp multiplies: how each is read, and how rows of x are packed to meet it.
#pragma once

#include "simd/lanes.hpp"

namespace edgespec::simd::EDGESPEC_TIER {

// Loads into a register: the compiler would read x again for each product that it enters.
template <class To>
EDGESPEC_INLINE To load_once(const void* from) {
    To value = load<To>(from);
#if defined(__x86_64__)
    __asm__("" : "+v"(value));
#endif
    return value;
}

struct Float32 {
    using Element = float;
    using Packed = float;
    static constexpr std::size_t kStep = kLanes;
    struct Loaded {
        Floats all;
    };
    static EDGESPEC_INLINE Loaded read(const Element* w) { return {load<Floats>(w)}; }
    static EDGESPEC_INLINE Loaded read_packed(const Packed* x) { return {load_once<Floats>(x)}; }
    static EDGESPEC_INLINE Floats add(Floats sum, const Loaded& w, const Loaded& x) { return sum + w.all * x.all; }
    static EDGESPEC_INLINE std::size_t place(std::size_t i) { return i; }
    static EDGESPEC_INLINE Packed packed(float x) { return x; }
};

#if defined(__AVX512BF16__)
// vdpbf16ps adds the products of neighbouring pairs to a float32 sum, rounding to nearest and taking subnormal
// numbers as zero.
struct BFloat16 {
    using Element = std::uint16_t;
    using Packed = std::uint16_t;
    static constexpr std::size_t kStep = 2 * kLanes;
    struct Loaded {
        __m512bh all;
    };
    static EDGESPEC_INLINE Loaded read(const Element* w) { return {load<__m512bh>(w)}; }
    static EDGESPEC_INLINE Loaded read_packed(const Packed* x) { return {(__m512bh)load_once<__m512i>(x)}; }
    static EDGESPEC_INLINE Floats add(Floats sum, const Loaded& w, const Loaded& x) {
        return (Floats)_mm512_dpbf16_ps((__m512)sum, w.all, x.all);
    }
    static EDGESPEC_INLINE std::size_t place(std::size_t i) { return i; }
    static EDGESPEC_INLINE Packed packed(float x) { return static_cast<Packed>(float_to_bits(x) >> 16); }
};
#else
// A vector of words holds two vectors of weights, the even and the odd ones; x is packed to match.
struct BFloat16 {
    using Element = std::uint16_t;
    using Packed = float;
    static constexpr std::size_t kStep = 2 * kLanes;
    struct Loaded {
        Floats even, odd;
    };
    static EDGESPEC_INLINE Loaded read(const Element* w) {
        const Words both = load<Words>(w);
        return {low_halves(both), high_halves(both)};
    }
    static EDGESPEC_INLINE Loaded read_packed(const Packed* x) {
        return {load_once<Floats>(x), load_once<Floats>(x + kLanes)};
    }
    static EDGESPEC_INLINE Floats add(Floats sum, const Loaded& w, const Loaded& x) {
        sum = sum + w.even * x.even;
        return sum + w.odd * x.odd;
    }
    static EDGESPEC_INLINE std::size_t place(std::size_t i) { return i % 2 * kLanes + i / 2; }
    static EDGESPEC_INLINE Packed packed(float x) { return x; }
};
#endif

struct Float16 {
    using Element = std::uint16_t;
    using Packed = float;
    static constexpr std::size_t kStep = kLanes;
    struct Loaded {
        Floats all;
    };
    static EDGESPEC_INLINE Loaded read(const Element* w) {
#if defined(__AVX512F__)
        return {(Floats)_mm512_cvtph_ps(load<__m256i>(w))};
#elif defined(__F16C__)
        return {(Floats)_mm256_cvtph_ps(load<__m128i>(w))};
#else
        float wide[kLanes];
        for (std::size_t i = 0; i < kLanes; ++i) wide[i] = from_half(w[i]);
        return {load<Floats>(wide)};
#endif
    }
    static EDGESPEC_INLINE Loaded read_packed(const Packed* x) { return {load_once<Floats>(x)}; }
    static EDGESPEC_INLINE Floats add(Floats sum, const Loaded& w, const Loaded& x) { return sum + w.all * x.all; }
    static EDGESPEC_INLINE std::size_t place(std::size_t i) { return i; }
    static EDGESPEC_INLINE Packed packed(float x) { return x; }
};

template <class Weight>
constexpr std::size_t padded(std::size_t dim) {
    return (dim + Weight::kStep - 1) / Weight::kStep * Weight::kStep;
}

}  // namespace edgespec::simd::EDGESPEC_TIER
