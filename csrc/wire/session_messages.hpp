// The messages of a session.
#pragma once

#include "wire/fields.hpp"

namespace edgespec::wire {

struct Bias {
    std::int32_t token;
    float bias;
};

// What an edge asks of the server: OPEN and TUNE carry it. The bits are named in edgespec/core/server_options.py.
struct ServerOptions {
    std::uint32_t flags = 0;
    float hint_threshold = 0;
    std::uint32_t max_wait_us = 0, reserved = 0;
};

struct Open {
    static constexpr FrameType kType = FrameType::kOpen;
    SessionId session_id{};
    double temperature = 0, top_p = 1, min_p = 0, repetition_penalty = 1;
    std::uint64_t seed = 0;
    std::uint32_t top_k = 0, max_new_tokens = 0;
    ServerOptions options;
    bool logprobs = false, ignore_eos = false, shared_memory = false;
    std::uint32_t latency_us = 0;  // the most that a token may take; 0: any time
    View<std::int32_t> tokens;
    View<Bias> logit_bias;
    // Sections, which this layer does not read: further sampling parameters, and pictures in the prompt.
    Bytes sampling, pictures;

    template <class Io>
    static void layout(Io& io) {
        io.value("session_id", &Open::session_id);
        io.value("temperature", &Open::temperature);
        io.value("top_p", &Open::top_p);
        io.value("min_p", &Open::min_p);
        io.value("repetition_penalty", &Open::repetition_penalty);
        io.value("seed", &Open::seed);
        io.value("top_k", &Open::top_k);
        io.value("max_new_tokens", &Open::max_new_tokens);
        io.value("options", &Open::options);
        const auto tokens = io.count(kU32, &Open::tokens), biases = io.count(kU32, &Open::logit_bias);
        const SectionKind<Open> sampling{1, "sampling", &Open::sampling}, pictures{2, "pictures", &Open::pictures};
        const auto sections = io.section_count(sampling, pictures);
        io.bits(kU16, "logprobs", &Open::logprobs, "ignore_eos", &Open::ignore_eos, "shared_memory",
                &Open::shared_memory);
        io.value("latency_us", &Open::latency_us);
        io.array("tokens", &Open::tokens, tokens);
        io.array("logit_bias", &Open::logit_bias, biases);
        io.sections(sections, sampling, pictures);
    }
};

struct Append {
    static constexpr FrameType kType = FrameType::kAppend;
    std::uint32_t keep_length = 0, max_new_tokens = 0;
    std::uint16_t turn = 0;
    View<std::int32_t> tokens;
    Bytes pictures;  // as in Open

    template <class Io>
    static void layout(Io& io) {
        io.value("keep_length", &Append::keep_length);
        io.value("max_new_tokens", &Append::max_new_tokens);
        const auto tokens = io.count(kU32, &Append::tokens);
        io.value("turn", &Append::turn);
        const SectionKind<Append> pictures{2, "pictures", &Append::pictures};
        const auto sections = io.section_count(pictures);
        io.array("tokens", &Append::tokens, tokens);
        io.sections(sections, pictures);
    }
};

struct Block {
    static constexpr FrameType kType = FrameType::kBlock;
    std::uint32_t first_node = 0;
    View<std::int32_t> tokens;
    View<std::uint32_t> parents;
    View<std::uint8_t> probabilities;

    template <class Io>
    static void layout(Io& io) {
        io.value("first_node", &Block::first_node);
        const auto count = io.count(kU16, &Block::tokens);
        const auto sections = io.section_count();
        io.array("tokens", &Block::tokens, count);
        io.array("parents", &Block::parents, count);
        io.array("probabilities", &Block::probabilities, count);
        io.skip_sections(sections);
    }
};

struct Hint {
    static constexpr FrameType kType = FrameType::kHint;
    std::uint32_t base_length = 0, node = 0;
    std::int32_t token = 0;
    float confidence = 0;
    std::uint16_t layer = 0, turn = 0;
    std::uint32_t clock_us = 0;

    template <class Io>
    static void layout(Io& io) {
        io.value("base_length", &Hint::base_length);
        io.value("node", &Hint::node);
        io.value("token", &Hint::token);
        io.value("confidence", &Hint::confidence);
        io.value("layer", &Hint::layer);
        io.value("turn", &Hint::turn);
        io.value("clock_us", &Hint::clock_us);
    }
};

struct Verdict {
    static constexpr FrameType kType = FrameType::kVerdict;
    std::uint32_t base_length = 0, forwards = 0, forward_us = 0, clock_us = 0;
    std::uint8_t rows = 0, row_price = 0;
    std::uint16_t turn = 0;
    FinishReason finish = FinishReason::kNone;
    View<std::int32_t> tokens;
    View<float> logprobs;  // one for each token, or none
    // The likeliest tokens at each token's position, the likeliest first: the same number for each, or none.
    View<std::int32_t> top_tokens;
    View<float> top_logprobs;

    template <class Io>
    static void layout(Io& io) {
        io.value("base_length", &Verdict::base_length);
        io.value("forwards", &Verdict::forwards);
        io.value("forward_us", &Verdict::forward_us);
        io.value("clock_us", &Verdict::clock_us);
        io.value("rows", &Verdict::rows);
        io.value("row_price", &Verdict::row_price);
        io.value("turn", &Verdict::turn);
        const auto count = io.count(kU16, &Verdict::tokens);
        io.value("finish", &Verdict::finish);
        const auto [logprobs, top] = io.verdict_flags(count, &Verdict::logprobs, &Verdict::top_tokens);
        io.array("tokens", &Verdict::tokens, count);
        io.array("logprobs", &Verdict::logprobs, logprobs);
        io.array("top_tokens", &Verdict::top_tokens, top);
        io.array("top_logprobs", &Verdict::top_logprobs, top);
    }
};

struct Ack {
    static constexpr FrameType kType = FrameType::kAck;
    template <class Io>
    static void layout(Io&) {}
};

struct Resume {
    static constexpr FrameType kType = FrameType::kResume;
    SessionId session_id{};
    std::uint32_t last_sequence = 0;

    template <class Io>
    static void layout(Io& io) {
        io.value("session_id", &Resume::session_id);
        io.value("last_sequence", &Resume::last_sequence);
        io.reserved(4);
    }
};

struct Close {
    static constexpr FrameType kType = FrameType::kClose;
    FinishReason reason = FinishReason::kNone;

    template <class Io>
    static void layout(Io& io) {
        io.value("reason", &Close::reason);
        io.reserved(7);
    }
};

struct Tune {
    static constexpr FrameType kType = FrameType::kTune;
    ServerOptions options;

    template <class Io>
    static void layout(Io& io) {
        io.value("options", &Tune::options);
    }
};

}  // namespace edgespec::wire
