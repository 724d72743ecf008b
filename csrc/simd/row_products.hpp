// Rows times the LM head as a checkpoint has it, row after row: the products for each type of weights.
//
// A tile of accumulators, kTokens rows of the head by kRows rows of x, stays in registers while both are read along D.
// Every byte of the head comes from memory once, whatever the number of rows. Rows of x go in bands of 8, 4, 2 or 1;
// within a band, each step of D holds that step of all its rows. D goes in chunks, whose sums are added in order.
#pragma once

#include "simd/tier.hpp"
#include "simd/weights.hpp"

namespace edgespec::simd::EDGESPEC_TIER {

// The head's rows that share a pass over all rows of x: they fit the second-level cache.
constexpr std::size_t kGroup = 12;

// Of each packed row of x, what stays in the first-level cache while such a group passes it.
constexpr std::size_t kChunkBytes = 4096;

constexpr std::size_t kWidestBand = EDGESPEC_LANE_BYTES == 32 ? 4 : 8;

// How many of `left` rows the next band takes.
EDGESPEC_INLINE std::size_t band_of(std::size_t left) {
    std::size_t band = kWidestBand;
    while (band > left) band /= 2;
    return band;
}

// Rows of the head, from w on and `dim` elements apart, by a band of x, over `length` of their elements: the products
// go to out[row * stride + token], beside what stands there already where there is `more` to a sum.
template <class Weight>
struct Task {
    const typename Weight::Element* w;
    std::size_t dim, length;
    const typename Weight::Packed* x;
    bool more;
    float* out;
    std::size_t stride;
};

template <class Weight, int kTokens, int kRows>
EDGESPEC_INLINE void multiply_tile(const Task<Weight>& task) {
    constexpr std::size_t kStep = Weight::kStep;
    const auto* x = task.x;
    Floats sums[kTokens][kRows] = {};
    std::size_t d = 0;
    for (; d + kStep <= task.length; d += kStep, x += kRows * kStep) {
        typename Weight::Loaded loaded[kTokens];
        EDGESPEC_UNROLL
        for (int t = 0; t < kTokens; ++t) {
            // The processor foresees little of several short streams: fetch the next tile meanwhile.
            __builtin_prefetch(task.w + (t + kTokens) * task.dim + d, 0, 3);
            loaded[t] = Weight::read(task.w + t * task.dim + d);
        }
        EDGESPEC_UNROLL
        for (int r = 0; r < kRows; ++r) {
            const typename Weight::Loaded own = Weight::read_packed(x + r * kStep);
            EDGESPEC_UNROLL
            for (int t = 0; t < kTokens; ++t) sums[t][r] = Weight::add(sums[t][r], loaded[t], own);
        }
    }
    if (d < task.length) {
        EDGESPEC_UNROLL
        for (int t = 0; t < kTokens; ++t) {
            typename Weight::Element rest[kStep] = {};
            std::memcpy(rest, task.w + t * task.dim + d, (task.length - d) * sizeof *rest);
            const auto loaded = Weight::read(rest);
            EDGESPEC_UNROLL
            for (int r = 0; r < kRows; ++r) {
                sums[t][r] = Weight::add(sums[t][r], loaded, Weight::read_packed(x + r * kStep));
            }
        }
    }
    for (int r = 0; r < kRows; ++r) {
        for (int t = 0; t < kTokens; ++t) {
            float& sum = task.out[r * task.stride + t];
            sum = task.more ? sum + sum_of(sums[t][r]) : sum_of(sums[t][r]);
        }
    }
}

// A group of `count` rows of the head by a band of kRows rows of x, kTokens of the head at a time.
template <class Weight, int kTokens, int kRows>
void multiply_band(Task<Weight> task, std::size_t count) {
    std::size_t t = 0;
    for (; t + kTokens <= count; t += kTokens) {
        multiply_tile<Weight, kTokens, kRows>(task);
        task.w += kTokens * task.dim;
        task.out += kTokens;
    }
    for (; t < count; ++t) {
        multiply_tile<Weight, 1, kRows>(task);
        task.w += task.dim;
        ++task.out;
    }
}

// Three, not more: rows of the head lie a power of two apart, and share few places in the first-level cache.
constexpr int kTokensOfFour = EDGESPEC_LANE_BYTES == 32 ? 2 : 3;

// A group of `count` rows of the head by all rows of x, over one chunk of D: all but x and more is set in `task`.
template <class Weight>
EDGESPEC_INLINE void multiply_chunk(Task<Weight> task, std::size_t count, const typename Weight::Packed* packed,
                                    std::size_t d, std::size_t rows) {
    const std::size_t length = padded<Weight>(task.dim);
    for (std::size_t row = 0; row < rows;) {
        const std::size_t band = band_of(rows - row);
        task.x = packed + band * d;
        if (band == 8) {
            if constexpr (kWidestBand == 8) multiply_band<Weight, 3, 8>(task, count);
        } else if (band == 4) {
            multiply_band<Weight, kTokensOfFour, 4>(task, count);
        } else if (band == 2) {
            multiply_band<Weight, 4, 2>(task, count);
        } else {
            multiply_band<Weight, 4, 1>(task, count);
        }
        row += band;
        packed += band * length;
        task.out += band * task.stride;
    }
}

template <class Weight>
void multiply_all(const void* weights, std::size_t dim, std::size_t count, const void* packed, std::size_t rows,
                  float* out, std::size_t stride) {
    constexpr std::size_t kChunk = kChunkBytes / sizeof(typename Weight::Packed);
    const auto* w = static_cast<const typename Weight::Element*>(weights);
    for (std::size_t first = 0; first < count; first += kGroup) {
        const std::size_t tokens = count - first < kGroup ? count - first : kGroup;
        for (std::size_t d = 0; d < dim; d += kChunk) {
            const std::size_t length = dim - d < kChunk ? dim - d : kChunk;
            const Task<Weight> task{w + first * dim + d, dim, length, nullptr, d > 0, out + first, stride};
            multiply_chunk(task, tokens, static_cast<const typename Weight::Packed*>(packed), d, rows);
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

inline void multiply(Type type, const void* weights, std::size_t dim, std::size_t count, const void* packed,
                     std::size_t rows, float* out, std::size_t stride) {
    const auto multiply_type = type == Type::float32    ? multiply_all<Float32>
                               : type == Type::bfloat16 ? multiply_all<BFloat16>
                                                        : multiply_all<Float16>;
    multiply_type(weights, dim, count, packed, rows, out, stride);
}

template <class Weight>
constexpr std::size_t packed_bytes_of(std::size_t rows, std::size_t dim) {
    return rows * padded<Weight>(dim) * sizeof(typename Weight::Packed);
}

inline std::size_t packed_bytes(Type type, std::size_t rows, std::size_t dim) {
    return type == Type::float32    ? packed_bytes_of<Float32>(rows, dim)
           : type == Type::bfloat16 ? packed_bytes_of<BFloat16>(rows, dim)
                                    : packed_bytes_of<Float16>(rows, dim);
}

inline void pack(Type type, const float* x, std::size_t rows, std::size_t dim, void* packed) {
    const auto pack_type = type == Type::float32    ? pack_all<Float32>
                           : type == Type::bfloat16 ? pack_all<BFloat16>
                                                    : pack_all<Float16>;
    pack_type(x, rows, dim, packed);
}

}  // namespace edgespec::simd::EDGESPEC_TIER
