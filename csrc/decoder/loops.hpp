// The decoder's own inner loops, compiled once for each level of vector instructions, as sampling/level.hpp's are.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgespec::decoder {

// Queries of a block: the lanes of attention.
constexpr std::size_t kQueries = 16;

struct Loops {
    const char* name;
    // out[r * stride + i] = sum over d of x[r, d] * weights[i, d], for the outputs i of `count` panels (panels.hpp) and
    // rows of x [rows, inputs].
    void (*multiply)(bool narrow, const void* panels, std::size_t inputs, std::size_t count, const float* x,
                     std::size_t rows, float* out, std::size_t stride);
    // to = x / sqrt(mean(x^2) + epsilon) * weight, all [dim].
    void (*norm)(const float* x, const float* weight, std::size_t dim, float epsilon, float* to);
    // Turns x [width] by the angles of its position: cos and sin [width], halves paired as Llama pairs them.
    void (*rotate)(float* x, const float* cos, const float* sin, std::size_t width);
    // Attention of one block of queries, kQueries side by side, to `count` slots of one key head; see
    // attention_of_level.hpp.
    void (*score)(const float* queries, const float* keys, std::size_t width, std::size_t count, float* scores);
    void (*weigh)(const float* bias, std::size_t count, float* scores, float* sums);
    void (*mix)(const float* weights, const float* values, std::size_t width, std::size_t count, std::size_t queries,
                float* mixed);
    // to = gate / (1 + exp(-gate)) * up, all [count].
    void (*gate)(const float* gate, const float* up, std::size_t count, float* to);
    // to += from, all [count].
    void (*add)(float* to, const float* from, std::size_t count);
};

// The loops of this level of sampling/level.hpp, the best of this processor for ""; nullptr where there are none.
const Loops* find_loops(const char* level);

}  // namespace edgespec::decoder
