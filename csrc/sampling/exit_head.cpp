#include "sampling/exit_head.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace edgespec::sampling {

using simd::Choice;
using simd::Noise;

namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

constexpr Choice<float> kNothing{-kInfinity, -kInfinity, -1};

// One row within one piece of the vocabulary.
struct Partial {
    Choice<float> choice = kNothing;
    bool sound = true;  // no logit is NaN or infinite
};

const void* row_of(const void* matrix, Type type, std::size_t row, std::size_t width) {
    return static_cast<const char*>(matrix) + row * width * size_of(type);
}

// float32 to the nearest float16, ties to even, as float32; what is beyond 65504 becomes infinite.
float to_half_and_back(float value) {
    const float magnitude = std::fabs(value);
    if (!(magnitude < kInfinity)) return value;
    if (magnitude >= 65520.0f) return std::copysign(kInfinity, value);
    int exponent = 0;
    std::frexp(magnitude, &exponent);
    const int last_bit = std::max(exponent - 11, -24);
    return std::copysign(std::ldexp(std::nearbyint(std::ldexp(magnitude, -last_bit)), last_bit), value);
}

float to_bfloat16_and_back(float value) {
    if (!std::isfinite(value)) return value;
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    bits = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
    std::memcpy(&value, &bits, sizeof bits);
    return value;
}

float round_to(Type type, float value) {
    return type == Type::float16    ? to_half_and_back(value)
           : type == Type::bfloat16 ? to_bfloat16_and_back(value)
                                    : value;
}

// The rows as the head reads them: x = round(round(h / sqrt(mean(h^2) + epsilon)) * norm), packed.
std::vector<char> packed_rows(const ExitHeadInput& in, const Tier& tier) {
    std::vector<float> rows(in.rows * in.dim), norm(in.dim);
    tier.widen(in.type, in.hidden, rows.size(), rows.data());
    tier.widen(in.type, in.norm, in.dim, norm.data());
    for (std::size_t row = 0; row < in.rows; ++row) {
        float* x = rows.data() + row * in.dim;
        double squares = 0;
        for (std::size_t d = 0; d < in.dim; ++d) squares += static_cast<double>(x[d]) * x[d];
        const auto scale = static_cast<float>(1 / std::sqrt(squares / static_cast<double>(in.dim) + in.epsilon));
        for (std::size_t d = 0; d < in.dim; ++d) x[d] = round_to(in.type, round_to(in.type, x[d] * scale) * norm[d]);
    }
    std::vector<char> packed(tier.packed_bytes(in.type, in.rows, in.dim));
    tier.pack(in.type, rows.data(), in.rows, in.dim, packed.data());
    return packed;
}

// Adds a choice among higher tokens.
void join(Choice<float>& so_far, const Choice<float>& later) {
    if (later.best > so_far.best) {
        so_far = {later.best, std::max(so_far.best, later.second), later.token};
    } else {
        so_far.second = std::max(so_far.second, later.best);
    }
}

bool all_finite(const float* z, std::size_t count) {
    int special = 0;
    for (std::size_t i = 0; i < count; ++i) special |= !(std::fabs(z[i]) < kInfinity);
    return special == 0;
}

// Reduces one row's logits z [count] of the tokens from `first` on. What cannot be among the best two, for `known` are
// better, is passed over: such a piece says token -1 and scores just below the known.
Partial reduce(const ExitHeadInput& in, std::size_t row, float* z, std::size_t first, std::size_t count,
               const Choice<float>& known, const Tier& tier) {
    if (in.logit_scale != 1) {
        for (std::size_t i = 0; i < count; ++i) z[i] *= in.logit_scale;
    }
    if (in.softcap != 0) {
        for (std::size_t i = 0; i < count; ++i) z[i] = in.softcap * std::tanh(z[i] / in.softcap);
    }
    const float temperature = in.temperatures[row];
    const Noise noise{temperature > 0, in.seeds[row], static_cast<std::uint32_t>(in.positions[row])};
    if (noise.any && temperature != 1) tier.row.divide(z, count, temperature, z);
    const float floor = std::nextafter(known.second, -kInfinity);
    Partial partial{{floor, floor, -1}, all_finite(z, count)};
    tier.row.choose(z, count, static_cast<std::uint32_t>(first), 1, noise, partial.choice, nullptr);
    return partial;
}

}  // namespace

std::vector<ExitHeadRow> exit_head(const ExitHeadInput& in, std::size_t threads, const Tier& tier, ThreadPool& pool) {
    const std::vector<char> packed = packed_rows(in, tier);
    const auto product = [&](std::size_t first, std::size_t count, float* logits, std::size_t stride) {
        tier.multiply(in.type, row_of(in.head, in.type, first, in.dim), in.dim, count, packed.data(), in.rows, logits,
                      stride);
    };
    return exit_head(in, product, threads, tier, pool);
}

std::vector<ExitHeadRow> exit_head(const ExitHeadInput& in, const HeadProduct& product, std::size_t threads,
                                   const Tier& tier, ThreadPool& pool) {
    const std::size_t pieces = (in.vocabulary + kPiece - 1) / kPiece;
    std::vector<Partial> partials(pieces * in.rows);
    std::vector<float> logits(threads * in.rows * kPiece);          // of each thread: [rows, kPiece]
    std::vector<Choice<float>> known(threads * in.rows, kNothing);  // of each thread: [rows]
    pool.run(threads, pieces, [&](std::size_t piece, std::size_t slot) {
        const std::size_t first = piece * kPiece, count = std::min(kPiece, in.vocabulary - first);
        float* const own_logits = logits.data() + slot * in.rows * kPiece;
        product(first, count, own_logits, kPiece);
        for (std::size_t row = 0; row < in.rows; ++row) {
            Partial& partial = partials[piece * in.rows + row];
            Choice<float>& own_known = known[slot * in.rows + row];
            partial = reduce(in, row, own_logits + row * kPiece, first, count, own_known, tier);
            if (partial.choice.token >= 0) join(own_known, partial.choice);
        }
    });
    std::vector<ExitHeadRow> rows;
    for (std::size_t row = 0; row < in.rows; ++row) {
        Partial all = partials[row];
        for (std::size_t piece = 1; piece < pieces; ++piece) {
            join(all.choice, partials[piece * in.rows + row].choice);
            all.sound = all.sound && partials[piece * in.rows + row].sound;
        }
        const bool sound = all.sound && all.choice.token >= 0;
        rows.push_back(sound ? ExitHeadRow{all.choice.token, all.choice.best - all.choice.second}
                             : ExitHeadRow{-1, std::numeric_limits<float>::quiet_NaN()});
    }
    return rows;
}

}  // namespace edgespec::sampling
