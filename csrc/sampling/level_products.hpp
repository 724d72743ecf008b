// Rows times the LM head: the products of level_loops.hpp, for each type of weights. Included by it alone.
//
// A block of accumulators, kTokens rows of the head by kRows rows of x, stays in registers while both are read along D.
// Every byte of the head comes from memory once, whatever the number of rows. Rows of x go in bands of 8, 4, 2 or 1;
// within a band, each step of D holds that step of all its rows.

typedef float Floats __attribute__((vector_size(EDGESPEC_LANE_BYTES)));
typedef std::uint32_t Words __attribute__((vector_size(EDGESPEC_LANE_BYTES)));

constexpr std::size_t kLanes = EDGESPEC_LANE_BYTES / sizeof(float);

// The head's rows that share a pass over all rows of x: they fit the second-level cache.
constexpr std::size_t kGroup = 12;

constexpr std::size_t kWidestBand = EDGESPEC_LANE_BYTES == 32 ? 4 : 8;

// How many of `left` rows the next band takes.
EDGESPEC_INLINE std::size_t band_of(std::size_t left) {
    std::size_t band = kWidestBand;
    while (band > left) band /= 2;
    return band;
}

template <class To>
EDGESPEC_INLINE To load(const void* from) {
    To value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

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
        return {(Floats)(both << 16), (Floats)(both & 0xffff0000u)};
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

EDGESPEC_INLINE float sum_of(Floats v) {
#if EDGESPEC_LANE_BYTES == 64
    v += __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14);
#elif EDGESPEC_LANE_BYTES == 32
    v += __builtin_shufflevector(v, v, 4, 5, 6, 7, 0, 1, 2, 3);
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1, 6, 7, 4, 5);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2, 5, 4, 7, 6);
#else
    v += __builtin_shufflevector(v, v, 2, 3, 0, 1);
    v += __builtin_shufflevector(v, v, 1, 0, 3, 2);
#endif
    return v[0];
}

// kTokens rows of the head, from w on, by a band of kRows rows of x.
template <class Weight, int kTokens, int kRows>
EDGESPEC_INLINE void multiply_block(const typename Weight::Element* w, std::size_t dim,
                                    const typename Weight::Packed* x, float* out, std::size_t stride) {
    constexpr std::size_t kStep = Weight::kStep;
    Floats sums[kTokens][kRows] = {};
    std::size_t d = 0;
    for (; d + kStep <= dim; d += kStep, x += kRows * kStep) {
        typename Weight::Loaded loaded[kTokens];
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
            // Many rows leave the processor too little foresight to keep memory busy: fetch the next block meanwhile.
            if constexpr (kRows >= 4) __builtin_prefetch(w + (t + kTokens) * dim + d, 0, 2);
            loaded[t] = Weight::read(w + t * dim + d);
        }
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r) {
            const typename Weight::Loaded own = Weight::read_packed(x + r * kStep);
#pragma GCC unroll 8
            for (int t = 0; t < kTokens; ++t) sums[t][r] = Weight::add(sums[t][r], loaded[t], own);
        }
    }
    if (d < dim) {
#pragma GCC unroll 8
        for (int t = 0; t < kTokens; ++t) {
            typename Weight::Element rest[kStep] = {};
            std::memcpy(rest, w + t * dim + d, (dim - d) * sizeof *rest);
            const auto loaded = Weight::read(rest);
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
                sums[t][r] = Weight::add(sums[t][r], loaded, Weight::read_packed(x + r * kStep));
            }
        }
    }
    for (int r = 0; r < kRows; ++r) {
        for (int t = 0; t < kTokens; ++t) out[r * stride + t] = sum_of(sums[t][r]);
    }
}

// A group of `count` rows of the head by a band of kRows rows of x, kTokens of the head at a time.
template <class Weight, int kTokens, int kRows>
void multiply_band(const typename Weight::Element* w, std::size_t dim, std::size_t count,
                   const typename Weight::Packed* x, float* out, std::size_t stride) {
    std::size_t t = 0;
    for (; t + kTokens <= count; t += kTokens) {
        multiply_block<Weight, kTokens, kRows>(w + t * dim, dim, x, out + t, stride);
    }
    for (; t < count; ++t) multiply_block<Weight, 1, kRows>(w + t * dim, dim, x, out + t, stride);
}

constexpr int kTokensOfFour = EDGESPEC_LANE_BYTES == 32 ? 2 : 4;

template <class Weight>
void multiply_all(const void* weights, std::size_t dim, std::size_t count, const void* packed, std::size_t rows,
                  float* out, std::size_t stride) {
    const auto* w = static_cast<const typename Weight::Element*>(weights);
    const std::size_t length = padded<Weight>(dim);
    for (std::size_t first = 0; first < count; first += kGroup) {
        const std::size_t tokens = count - first < kGroup ? count - first : kGroup;
        const auto* x = static_cast<const typename Weight::Packed*>(packed);
        const auto* group = w + first * dim;
        float* to = out + first;
        for (std::size_t row = 0; row < rows;) {
            const std::size_t band = band_of(rows - row);
            if (band == 8) {
                if constexpr (kWidestBand == 8) multiply_band<Weight, 3, 8>(group, dim, tokens, x, to, stride);
            } else if (band == 4) {
                multiply_band<Weight, kTokensOfFour, 4>(group, dim, tokens, x, to, stride);
            } else if (band == 2) {
                multiply_band<Weight, 4, 2>(group, dim, tokens, x, to, stride);
            } else {
                multiply_band<Weight, 4, 1>(group, dim, tokens, x, to, stride);
            }
            row += band;
            x += band * length;
            to += band * stride;
        }
    }
}

template <class Weight>
void pack_all(const float* x, std::size_t rows, std::size_t dim, void* packed) {
    constexpr std::size_t kStep = Weight::kStep;
    const std::size_t length = padded<Weight>(dim);
    auto* to = static_cast<typename Weight::Packed*>(packed);
    std::memset(packed, 0, rows * length * sizeof *to);
    for (std::size_t row = 0; row < rows;) {
        const std::size_t band = band_of(rows - row);
        for (std::size_t r = 0; r < band; ++r, ++row, x += dim) {
            for (std::size_t d = 0; d < dim; ++d) {
                to[(d / kStep * band + r) * kStep + Weight::place(d % kStep)] = Weight::packed(x[d]);
            }
        }
        to += band * length;
    }
}

void multiply(Type type, const void* weights, std::size_t dim, std::size_t count, const void* packed, std::size_t rows,
              float* out, std::size_t stride) {
    const auto multiply_type = type == Type::float32    ? multiply_all<Float32>
                               : type == Type::bfloat16 ? multiply_all<BFloat16>
                                                        : multiply_all<Float16>;
    multiply_type(weights, dim, count, packed, rows, out, stride);
}

template <class Weight>
constexpr std::size_t packed_bytes_of(std::size_t rows, std::size_t dim) {
    return rows * padded<Weight>(dim) * sizeof(typename Weight::Packed);
}

std::size_t packed_bytes(Type type, std::size_t rows, std::size_t dim) {
    return type == Type::float32    ? packed_bytes_of<Float32>(rows, dim)
           : type == Type::bfloat16 ? packed_bytes_of<BFloat16>(rows, dim)
                                    : packed_bytes_of<Float16>(rows, dim);
}

void pack(Type type, const float* x, std::size_t rows, std::size_t dim, void* packed) {
    const auto pack_type = type == Type::float32    ? pack_all<Float32>
                           : type == Type::bfloat16 ? pack_all<BFloat16>
                                                    : pack_all<Float16>;
    pack_type(x, rows, dim, packed);
}
