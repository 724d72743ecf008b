// One frame of each type, for tests and for the fuzzers' first corpus.
#pragma once

#include <cstring>
#include <vector>

#include "net/link.hpp"

namespace edgespec::test {

using net::Frame;
using net::frame_of;

inline const std::int32_t kTokens[] = {5, 6, 7};
inline const std::uint32_t kParents[] = {wire::kCommittedBit | 3, wire::kCommittedBit | 3, wire::kCommittedBit | 4};
inline const std::uint8_t kProbabilities[] = {200, 100, 50};
inline const float kLogprobs[] = {-0.5f, -1.0f, -2.0f};
inline const std::int32_t kTopTokens[] = {5, 9, 6, 5, 9, 7};
inline const float kTopLogprobs[] = {-0.5f, -1.5f, -1.0f, -1.25f, -1.5f, -2.0f};
inline const wire::Bias kBiases[] = {{7, -1.5f}};
inline const std::uint16_t kLayers[] = {4, 8};

inline wire::Block block(std::uint32_t first_node = 11) {
    return {first_node, {kTokens, 3}, {kParents, 3}, {kProbabilities, 3}};
}

inline wire::Open opening(std::uint8_t id = 1) {
    wire::Open open;
    open.session_id[0] = id;
    open.max_new_tokens = 64;
    open.tokens = {kTokens, 3};
    open.logit_bias = {kBiases, 1};
    return open;
}

inline wire::Welcome welcome() {
    wire::Welcome welcome;
    welcome.layers = 12;
    welcome.context_length = 2048;
    welcome.vocabulary_size = 4096;
    welcome.max_frame_bytes = 65536;
    welcome.max_block_nodes = 1024;
    welcome.end_tokens = {kTokens, 1};
    welcome.exit_layers = {kLayers, 2};
    welcome.target_id = "target";
    welcome.sampling = wire::Bytes("{}");
    return welcome;
}

inline wire::Hello hello() {
    wire::Hello hello;
    hello.agent = "test";
    hello.credential = "secret";
    return hello;
}

inline wire::Verdict verdict(std::uint32_t base_length = 4) {
    wire::Verdict verdict;
    verdict.base_length = base_length;
    verdict.tokens = {kTokens, 3};
    verdict.logprobs = {kLogprobs, 3};
    verdict.top_tokens = {kTopTokens, 6};
    verdict.top_logprobs = {kTopLogprobs, 6};
    return verdict;
}

inline std::vector<Frame> one_of_each() {
    return {frame_of(0, hello()),
            frame_of(0, welcome()),
            frame_of(1, opening()),
            frame_of(1, wire::Append{10, 20, 3, {kTokens, 3}, {}}),
            frame_of(1, block()),
            frame_of(1, wire::Hint{4, 11, 9, 0.5f, 6, 2, 77}),
            frame_of(1, verdict()),
            frame_of(1, wire::Ack{}),
            frame_of(1, wire::Resume{{1}, 5}),
            frame_of(1, wire::Close{wire::FinishReason::kStop}),
            frame_of(0, wire::Ping{123}),
            frame_of(0, wire::Pong{123, 4}),
            frame_of(0, wire::Goaway{100, "draining"}),
            frame_of(0, wire::Error{wire::ErrorCode::kLimit, true, 100, "too many"}),
            frame_of(1, wire::Tune{{3, 0.5f, 100}}),
            frame_of(0, wire::Fetch{{1}, 60}),
            frame_of(0, wire::File{60, 63, wire::Bytes("end")})};
}

// Numbered, as a sender's link would.
inline Frame numbered(Frame frame, std::uint32_t sequence) {
    wire::Header header = wire::read_header(frame.data());
    header.sequence = sequence;
    std::memcpy(frame.data(), &header, wire::kHeaderBytes);
    return frame;
}

}  // namespace edgespec::test
