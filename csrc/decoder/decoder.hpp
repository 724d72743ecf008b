// The layers of a Llama-family target on the CPU, for the few rows of a verification: weights stay as narrow as they
// are exact, all arithmetic is float32, and keys and values are read where the pool has them.
//
// A draft tree's rows share each weight that is read, so a forward of a few rows costs little more than one of a
// single row: memory traffic is what it waits for. Rows are not padded and nothing is copied but the rows themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "decoder/panels.hpp"
#include "sampling/exit_head.hpp"
#include "simd/tier.hpp"
#include "threads/thread_pool.hpp"

namespace edgespec::decoder {

// Vectors that a model lacks are nullptr.
struct Layer {
    Panels attention_input;  // queries, keys and values, one below the other
    Panels attention_output;
    Panels mlp_input;  // gate and up, one below the other
    Panels mlp_output;
    const float* attention_norm;
    const float* mlp_norm;
    const float* attention_bias;  // of attention_input's outputs
    const float* query_norm;      // of each head
    const float* key_norm;
};

struct Shape {
    std::size_t dim, heads, kv_heads, head_width, mlp_width;
    float epsilon;
};

// A layer's keys and values: float32 [kv_heads, slots, head_width] each.
struct Memory {
    float* keys;
    float* values;
};

// Slots of a session that lie side by side in the pool.
struct Stretch {
    std::size_t slot, pool_slot, count;
};

// A session's rows [first, last) of a forward. seen [last - first, width]: which of its slots each row attends to,
// itself included; stretches: where these slots are.
struct Part {
    std::size_t first, last, width;
    const std::uint8_t* seen;
    std::vector<Stretch> stretches;
};

// What the layers of one forward share: cos and sin [rows, head_width], the pool's slots [rows] that rows write to.
struct Forward {
    std::size_t rows;
    const float *cos, *sin;
    const std::int64_t* slots;
    std::vector<Part> parts;
    std::size_t pool_slots;
};

class Decoder {
 public:
    Decoder(const Shape& shape, std::vector<Layer> layers, const Panels& head, const float* final_norm,
            std::size_t threads, const simd::Tier& tier);

    const Shape& shape() const { return shape_; }
    std::size_t layers() const { return layers_.size(); }
    std::size_t vocabulary() const { return head_.outputs(); }

    // Runs hidden rows [rows, dim] through layers [first, last), in place. memory: one a layer of the model.
    void run(std::size_t first, std::size_t last, float* hidden, const Forward& forward,
             const std::vector<Memory>& memory);

    // Logits [rows, vocabulary] of hidden rows [rows, dim] after the last layer.
    void logits(const float* hidden, std::size_t rows, float* out);

    // The guesses of an exit: sampling/exit_head.hpp on float32 rows and norm, with this head. The input's own head is
    // not looked at.
    std::vector<sampling::ExitHeadRow> guess(const sampling::ExitHeadInput& input);

 private:
    // Rows [first, last) of a part and heads [first_head, last_head) of those that share a key head; where in biases_
    // it is written what they see: float32 [width, kQueries], `width` the slots up to the last that they see.
    struct Tile {
        const Part* part;
        std::size_t first, last, first_head, last_head, bias, width;
    };

    // What a thread needs for one tile: queries and mixed values [width, kQueries], scores [slots, kQueries].
    struct Scratch {
        std::vector<float> queries, scores, mixed;
    };

    void plan(const Forward& forward);
    void attend(const Forward& forward, const Memory& memory);
    void attend_tile(const Tile& block, std::size_t kv_head, const Forward& forward, const Memory& memory,
                     Scratch& scratch);
    void remember(const Layer& layer, const Forward& forward, const Memory& memory);
    void gate(std::size_t rows, std::size_t stride);
    void add_output(float* hidden, std::size_t rows, const Panels& matrix);
    void normalize(const float* x, std::size_t rows, const float* weight);
    // Rows [rows, inputs] times the matrix; its rows begin `width_of(matrix)` apart.
    void multiply(const Panels& matrix, const float* x, std::size_t rows, std::vector<float>& out);

    const Shape shape_;
    const std::vector<Layer> layers_;
    const Panels head_;
    const float* const final_norm_;
    const simd::Tier& tier_;
    const simd::LayerLoops& loops_;
    const std::size_t threads_;
    ThreadPool pool_;
    // Rows between the steps of a layer, as wide as their names say.
    std::vector<float> normed_, attention_, mixed_, mlp_, gated_, output_, biases_;
    std::vector<Tile> tiles_;
    std::vector<Scratch> scratch_;  // one a thread
};

}  // namespace edgespec::decoder
