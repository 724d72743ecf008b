// What frames say: one struct a message. Arrays are views of the payload they were decoded from, or of the caller's
// memory when they are encoded.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "wire/frame.hpp"

namespace edgespec::wire {

template <class T>
struct View {
    const T* data = nullptr;
    std::size_t size = 0;
};

using Hash = std::array<std::uint8_t, 32>;
using SessionId = std::array<std::uint8_t, 16>;

struct Hello {
    static constexpr FrameType kType = FrameType::kHello;
    std::uint16_t version_min = kProtocolVersion, version_max = kProtocolVersion;
    std::uint32_t features = 0;
    Hash vocabulary_hash{};
    std::string_view agent, credential;
};

struct Welcome {
    static constexpr FrameType kType = FrameType::kWelcome;
    static constexpr std::uint32_t kHostsDraft = 1;  // features
    std::uint16_t version = kProtocolVersion, layers = 0;
    std::uint32_t features = 0, context_length = 0, vocabulary_size = 0, max_frame_bytes = 0, max_block_nodes = 0;
    Hash vocabulary_hash{};
    View<std::int32_t> end_tokens;
    View<std::uint16_t> exit_layers;
    std::string_view target_id;
};

struct Bias {
    std::int32_t token;
    float bias;
};

// What an edge asks of the server: OPEN and TUNE carry it. The bits are named in edgespec/core/server_options.py.
struct ServerOptions {
    std::uint32_t flags = 0;
    float hint_threshold = 0;
    std::uint32_t max_wait_us = 0;
};

struct Open {
    static constexpr FrameType kType = FrameType::kOpen;
    static constexpr std::uint16_t kLogprobs = 1, kIgnoreEos = 2;
    SessionId session_id{};
    double temperature = 0, top_p = 1, min_p = 0, repetition_penalty = 1;
    std::uint64_t seed = 0;
    std::uint32_t top_k = 0, max_new_tokens = 0;
    ServerOptions options;
    std::uint16_t flags = 0;
    std::uint32_t latency_us = 0;  // the most that a token may take; 0: any time
    View<std::int32_t> tokens;
    View<Bias> logit_bias;
};

struct Append {
    static constexpr FrameType kType = FrameType::kAppend;
    std::uint32_t keep_length = 0, max_new_tokens = 0;
    std::uint16_t turn = 0;
    View<std::int32_t> tokens;
};

struct Block {
    static constexpr FrameType kType = FrameType::kBlock;
    std::uint32_t first_node = 0;
    View<std::int32_t> tokens;
    View<std::uint32_t> parents;
    View<std::uint8_t> probabilities;
};

struct Hint {
    static constexpr FrameType kType = FrameType::kHint;
    std::uint32_t base_length = 0, node = 0;
    std::int32_t token = 0;
    float confidence = 0;
    std::uint16_t layer = 0, turn = 0;
    std::uint32_t clock_us = 0;
};

struct Verdict {
    static constexpr FrameType kType = FrameType::kVerdict;
    std::uint32_t base_length = 0, forwards = 0, forward_us = 0, clock_us = 0;
    std::uint16_t rows = 0, turn = 0;
    FinishReason finish = FinishReason::kNone;
    View<std::int32_t> tokens;
    View<float> logprobs;  // one for each token, or none
};

struct Ack {
    static constexpr FrameType kType = FrameType::kAck;
};

struct Resume {
    static constexpr FrameType kType = FrameType::kResume;
    SessionId session_id{};
    std::uint32_t last_sequence = 0;
};

struct Close {
    static constexpr FrameType kType = FrameType::kClose;
    FinishReason reason = FinishReason::kNone;
};

struct Ping {
    static constexpr FrameType kType = FrameType::kPing;
    std::uint64_t clock_ns = 0;  // the sender's; comes back in the PONG
};

struct Pong {
    static constexpr FrameType kType = FrameType::kPong;
    std::uint64_t clock_ns = 0;
    std::uint32_t clock_us = 0;  // the answering side's
};

struct Goaway {
    static constexpr FrameType kType = FrameType::kGoaway;
    std::uint32_t retry_after_ms = 0;
    std::string_view message;
};

struct Error {
    static constexpr FrameType kType = FrameType::kError;
    ErrorCode code = ErrorCode::kProtocol;
    bool retryable = false;
    std::uint32_t retry_after_ms = 0;
    std::string_view message;
};

struct Tune {
    static constexpr FrameType kType = FrameType::kTune;
    ServerOptions options;
};

}  // namespace edgespec::wire
