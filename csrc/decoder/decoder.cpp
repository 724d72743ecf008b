#include "decoder/decoder.hpp"

#include <algorithm>
#include <cmath>

namespace edgespec::decoder {

using simd::kQueries;

namespace {

// A head with at least this number of weights is worth starting threads for.
constexpr std::size_t kWorthThreads = std::size_t{1} << 23;

// Panels that are one task.
constexpr std::size_t kPanelsAtOnce = 4;

// Added to the score of a slot that a row does not see.
constexpr float kUnseen = -1.0e30f;

// Floats from one row of a product to the next.
std::size_t width_of(const Panels& matrix) { return matrix.count() * Panels::kOutputs; }

// Slots of a part up to the last that its rows [first, last) see.
std::size_t seen_by(const Part& part, std::size_t first, std::size_t last) {
    std::size_t width = 0;
    for (std::size_t row = first - part.first; row < last - part.first; ++row) {
        const std::uint8_t* seen = part.seen + row * part.width;
        std::size_t own = part.width;
        while (own > width && seen[own - 1] == 0) --own;
        width = own;
    }
    return width;
}

template <class T>
T* at_least(std::vector<T>& buffer, std::size_t size) {
    if (buffer.size() < size) buffer.resize(size);
    return buffer.data();
}

}  // namespace

Decoder::Decoder(const Shape& shape, std::vector<Layer> layers, const Panels& head, const float* final_norm,
                 std::size_t threads, const simd::Tier& tier)
    : shape_(shape),
      layers_(std::move(layers)),
      head_(head),
      final_norm_(final_norm),
      tier_(tier),
      loops_(tier.layer),
      threads_(threads),
      scratch_(threads) {}

void Decoder::run(std::size_t first, std::size_t last, float* hidden, const Forward& forward,
                  const std::vector<Memory>& memory) {
    plan(forward);
    for (std::size_t index = first; index < last; ++index) {
        const Layer& layer = layers_[index];
        normalize(hidden, forward.rows, layer.attention_norm);
        multiply(layer.attention_input, normed_.data(), forward.rows, attention_);
        remember(layer, forward, memory[index]);
        attend(forward, memory[index]);
        multiply(layer.attention_output, mixed_.data(), forward.rows, output_);
        add_output(hidden, forward.rows, layer.attention_output);

        normalize(hidden, forward.rows, layer.mlp_norm);
        multiply(layer.mlp_input, normed_.data(), forward.rows, mlp_);
        gate(forward.rows, width_of(layer.mlp_input));
        multiply(layer.mlp_output, gated_.data(), forward.rows, output_);
        add_output(hidden, forward.rows, layer.mlp_output);
    }
}

void Decoder::logits(const float* hidden, std::size_t rows, float* out) {
    normalize(hidden, rows, final_norm_);
    multiply(head_, normed_.data(), rows, output_);
    for (std::size_t row = 0; row < rows; ++row) {
        const float* from = output_.data() + row * width_of(head_);
        std::copy(from, from + vocabulary(), out + row * vocabulary());
    }
}

std::vector<sampling::ExitHeadRow> Decoder::guess(const sampling::ExitHeadInput& input) {
    const auto* hidden = static_cast<const float*>(input.hidden);
    std::vector<float> rows(input.rows * shape_.dim);
    for (std::size_t row = 0; row < input.rows; ++row) {
        loops_.norm(hidden + row * shape_.dim, static_cast<const float*>(input.norm), shape_.dim, input.epsilon,
                    rows.data() + row * shape_.dim);
    }
    const auto product = [&](std::size_t first, std::size_t count, float* logits, std::size_t stride) {
        loops_.multiply(head_.narrow(), head_.panel(first / Panels::kOutputs), head_.inputs(),
                        (count + Panels::kOutputs - 1) / Panels::kOutputs, rows.data(), input.rows, logits, stride);
    };
    const bool large = head_.outputs() * head_.inputs() >= kWorthThreads;
    return sampling::exit_head(input, product, large ? threads_ : 1, tier_, pool_);
}

void Decoder::normalize(const float* x, std::size_t rows, const float* weight) {
    float* to = at_least(normed_, rows * shape_.dim);
    for (std::size_t row = 0; row < rows; ++row) {
        loops_.norm(x + row * shape_.dim, weight, shape_.dim, shape_.epsilon, to + row * shape_.dim);
    }
}

void Decoder::gate(std::size_t rows, std::size_t stride) {
    const std::size_t width = shape_.mlp_width;
    at_least(gated_, rows * width);
    for (std::size_t row = 0; row < rows; ++row) {
        const float* from = mlp_.data() + row * stride;
        loops_.gate(from, from + width, width, gated_.data() + row * width);
    }
}

void Decoder::add_output(float* hidden, std::size_t rows, const Panels& matrix) {
    for (std::size_t row = 0; row < rows; ++row) {
        loops_.add(hidden + row * shape_.dim, output_.data() + row * width_of(matrix), shape_.dim);
    }
}

void Decoder::multiply(const Panels& matrix, const float* x, std::size_t rows, std::vector<float>& out) {
    const std::size_t stride = width_of(matrix);
    float* to = at_least(out, rows * stride);
    pool_.run(threads_, (matrix.count() + kPanelsAtOnce - 1) / kPanelsAtOnce, [&](std::size_t chunk, std::size_t) {
        const std::size_t panel = chunk * kPanelsAtOnce;
        loops_.multiply(matrix.narrow(), matrix.panel(panel), matrix.inputs(),
                        std::min(kPanelsAtOnce, matrix.count() - panel), x, rows, to + panel * Panels::kOutputs,
                        stride);
    });
}

// Biases, norms and rotations; then the rows' keys and values go to their slots.
void Decoder::remember(const Layer& layer, const Forward& forward, const Memory& memory) {
    const std::size_t width = shape_.head_width, stride = width_of(layer.attention_input);
    for (std::size_t row = 0; row < forward.rows; ++row) {
        float* x = attention_.data() + row * stride;
        if (layer.attention_bias != nullptr) loops_.add(x, layer.attention_bias, layer.attention_input.outputs());
        const std::size_t turned = shape_.heads + shape_.kv_heads;
        for (std::size_t head = 0; head < turned; ++head) {
            float* own = x + head * width;
            const float* norm = head < shape_.heads ? layer.query_norm : layer.key_norm;
            if (norm != nullptr) loops_.norm(own, norm, width, shape_.epsilon, own);
            loops_.rotate(own, forward.cos + row * width, forward.sin + row * width, width);
        }
        const auto slot = static_cast<std::size_t>(forward.slots[row]);
        for (std::size_t head = 0; head < shape_.kv_heads; ++head) {
            const std::size_t to = (head * forward.pool_slots + slot) * width;
            const float* key = x + (shape_.heads + head) * width;
            const float* value = key + shape_.kv_heads * width;
            std::copy(key, key + width, memory.keys + to);
            std::copy(value, value + width, memory.values + to);
        }
    }
}

// The tasks of attention: one for each session, each tile of its rows and each key head.
void Decoder::plan(const Forward& forward) {
    const std::size_t share = shape_.heads / shape_.kv_heads;
    const std::size_t rows_at_once = std::max<std::size_t>(1, kQueries / share);
    tiles_.clear();
    std::size_t floats = 0;
    for (const Part& part : forward.parts) {
        for (std::size_t first = part.first; first < part.last; first += rows_at_once) {
            const std::size_t last = std::min(first + rows_at_once, part.last);
            const std::size_t width = seen_by(part, first, last);
            for (std::size_t head = 0; head < share; head += kQueries) {
                tiles_.push_back({&part, first, last, head, std::min(share, head + kQueries), floats, width});
            }
            floats += width * kQueries;
        }
    }
    float* biases = at_least(biases_, floats);
    for (const Tile& tile : tiles_) {
        const Part& part = *tile.part;
        float* bias = biases + tile.bias;
        for (std::size_t q = 0; q < kQueries; ++q) {
            const std::size_t row = std::min(tile.first + q / std::min(share, kQueries), tile.last - 1);
            const std::uint8_t* seen = part.seen + (row - part.first) * part.width;
            for (std::size_t s = 0; s < tile.width; ++s) bias[s * kQueries + q] = seen[s] != 0 ? 0.0f : kUnseen;
        }
    }
}

void Decoder::attend(const Forward& forward, const Memory& memory) {
    at_least(mixed_, forward.rows * shape_.heads * shape_.head_width);
    std::size_t slots = 0;
    for (const Tile& tile : tiles_) slots = std::max(slots, tile.width);
    for (Scratch& scratch : scratch_) {  // here, so that no worker allocates
        at_least(scratch.queries, shape_.head_width * kQueries);
        at_least(scratch.scores, slots * kQueries);
        at_least(scratch.mixed, shape_.head_width * kQueries);
    }
    pool_.run(threads_, tiles_.size() * shape_.kv_heads, [&](std::size_t chunk, std::size_t slot) {
        attend_tile(tiles_[chunk / shape_.kv_heads], chunk % shape_.kv_heads, forward, memory, scratch_[slot]);
    });
}

void Decoder::attend_tile(const Tile& tile, std::size_t kv_head, const Forward& forward, const Memory& memory,
                          Scratch& scratch) {
    const Part& part = *tile.part;
    const std::size_t width = shape_.head_width, share = shape_.heads / shape_.kv_heads;
    const std::size_t heads = tile.last_head - tile.first_head, count = (tile.last - tile.first) * heads;
    const std::size_t stride = width_of(layers_.front().attention_input);
    const auto head_of = [&](std::size_t q) { return kv_head * share + tile.first_head + q % heads; };
    std::vector<float>&queries = scratch.queries, &scores = scratch.scores, &mixed = scratch.mixed;
    const float scale = 1.0f / std::sqrt(static_cast<float>(width));
    for (std::size_t q = 0; q < kQueries; ++q) {
        const float* from = attention_.data() + (tile.first + q / heads) * stride + head_of(q) * width;
        for (std::size_t d = 0; d < width; ++d) queries[d * kQueries + q] = q < count ? from[d] * scale : 0.0f;
    }
    const float* keys = memory.keys + kv_head * forward.pool_slots * width;
    const auto each_stretch = [&](auto&& visit) {
        for (const Stretch& stretch : part.stretches) {
            if (stretch.slot < tile.width) visit(stretch, std::min(stretch.count, tile.width - stretch.slot));
        }
    };
    each_stretch([&](const Stretch& stretch, std::size_t slots) {
        loops_.score(queries.data(), keys + stretch.pool_slot * width, width, slots,
                     scores.data() + stretch.slot * kQueries);
    });
    float sums[kQueries];
    loops_.weigh(biases_.data() + tile.bias, tile.width, scores.data(), sums);
    std::fill_n(mixed.begin(), kQueries * width, 0.0f);
    const float* values = memory.values + kv_head * forward.pool_slots * width;
    each_stretch([&](const Stretch& stretch, std::size_t slots) {
        loops_.mix(scores.data() + stretch.slot * kQueries, values + stretch.pool_slot * width, width, slots, count,
                   mixed.data());
    });
    for (std::size_t q = 0; q < count; ++q) {
        float* to = mixed_.data() + ((tile.first + q / heads) * shape_.heads + head_of(q)) * width;
        for (std::size_t d = 0; d < width; ++d) to[d] = mixed[q * width + d] / sums[q];
    }
}

}  // namespace edgespec::decoder
