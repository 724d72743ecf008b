// The inner loops of the kernels and of the decoder, compiled once for each SIMD tier and chosen when the process runs.
//
// lanes.hpp says how a tier is compiled; tier.cpp chooses.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgespec::simd {

enum class Type { float32, bfloat16, float16, float64 };

constexpr std::size_t size_of(Type type) { return type == Type::float32 ? 4 : type == Type::float64 ? 8 : 2; }

// Which noise is added to a row's scores.
struct Noise {
    bool any;
    std::uint64_t seed;
    std::uint32_t position;
};

// The best score so far, the lowest token among equals, and the second-best.
template <class T>
struct Choice {
    T best, second;
    std::int32_t token;
};

// Running log-sum-exp: sum of exp(z - top). NaN or infinite z leave a sum or a top that is not finite.
template <class T>
struct Mass {
    T top;
    double sum;
};

// Loops over one row's scores z [count].
template <class T>
struct RowLoops {
    void (*divide)(const T* z, std::size_t count, T by, T* out);
    void (*add_mass)(const T* z, std::size_t count, Mass<T>& mass);
    // Folds z / temperature + noise into `choice`; without noise, z. z[i] belongs to token first_token + i, first_token
    // a multiple of 4. mass: takes z too, where one is given.
    void (*choose)(const T* z, std::size_t count, std::uint32_t first_token, T temperature, const Noise& noise,
                   Choice<T>& choice, Mass<T>* mass);
    // The same of tokens [count], rising, with a score each, divided already.
    void (*choose_listed)(const T* z, const std::int32_t* tokens, std::size_t count, const Noise& noise,
                          Choice<T>& choice);
    // weights[i] = exp(z[i] - top)
    void (*weigh)(const T* z, std::size_t count, T top, T* weights);
    // The sum of the weights whose z is at least `from`, and their number.
    double (*mass_from)(const T* z, const T* weights, std::size_t count, T from, std::size_t& number);
    // Puts the z that are at least `from`, and their tokens, into `out` and `tokens`, which have room for all; their
    // number. z[i] belongs to token first_token + i.
    std::size_t (*collect)(const T* z, std::size_t count, std::uint32_t first_token, T from, T* out,
                           std::int32_t* tokens);
    // z[i] = -inf where it is below `value`, or equal to it with i < first.
    void (*mask)(T* z, std::size_t count, T value, std::size_t first);
};

// Outputs of a panel of weights (decoder/panels.hpp), and queries that lie side by side: the lanes of attention.
constexpr std::size_t kPanelOutputs = 32, kQueries = 16;

// Loops of the layers of a decoder.
struct LayerLoops {
    // out[r * stride + i] = sum over d of x[r, d] * weights[i, d], for the outputs i of `count` panels, which are of
    // bfloat16 where `narrow`, and rows of x [rows, inputs].
    void (*multiply)(bool narrow, const void* panels, std::size_t inputs, std::size_t count, const float* x,
                     std::size_t rows, float* out, std::size_t stride);
    // to = x / sqrt(mean(x^2) + epsilon) * weight, all [dim].
    void (*norm)(const float* x, const float* weight, std::size_t dim, float epsilon, float* to);
    // Turns x [width] by the angles of its position: cos and sin [width], halves paired as Llama pairs them.
    void (*rotate)(float* x, const float* cos, const float* sin, std::size_t width);
    // Attention of kQueries queries to `count` slots of one key head; see attention.hpp.
    void (*score)(const float* queries, const float* keys, std::size_t width, std::size_t count, float* scores);
    void (*weigh)(const float* bias, std::size_t count, float* scores, float* sums);
    void (*mix)(const float* weights, const float* values, std::size_t width, std::size_t count, std::size_t queries,
                float* mixed);
    // to = gate / (1 + exp(-gate)) * up, all [count].
    void (*gate)(const float* gate, const float* up, std::size_t count, float* to);
    // to += from, all [count].
    void (*add)(float* to, const float* from, std::size_t count);
};

struct Tier {
    const char* name;
    // Bytes of x [rows, dim] in the layout that `multiply` reads, and its making; x fits `type` exactly.
    std::size_t (*packed_bytes)(Type type, std::size_t rows, std::size_t dim);
    void (*pack)(Type type, const float* x, std::size_t rows, std::size_t dim, void* packed);
    // out[r * stride + v] = sum over d of x[r, d] * weights[v, d], for v < count.
    void (*multiply)(Type type, const void* weights, std::size_t dim, std::size_t count, const void* packed,
                     std::size_t rows, float* out, std::size_t stride);
    void (*widen)(Type type, const void* from, std::size_t count, float* to);
    RowLoops<float> row;
    RowLoops<double> wide_row;
    LayerLoops layer;

    template <class T>
    const RowLoops<T>& loops() const {
        if constexpr (sizeof(T) == sizeof(float)) {
            return row;
        } else {
            return wide_row;
        }
    }
};

// The tiers that this processor runs, the best first; ends with nullptr.
const Tier* const* tiers();

// The tier of this name, the best for ""; nullptr where this processor does not run it.
const Tier* find_tier(const char* name);

}  // namespace edgespec::simd
