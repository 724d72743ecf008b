#include "wire/codec.hpp"

#include <cmath>

#include "wire/archives.hpp"

namespace edgespec::wire {

namespace {

// What a message's values must be, besides their types

template <class M>
void check(const M&) {}

void check_share(double value, const char* what) {
    if (!(value >= 0 && value <= 1)) bad(std::string(what) + " lies outside 0 to 1");
}

void check(const Hello& m) {
    constexpr std::size_t kFixed = 48;
    if (m.agent.size() + m.credential.size() > kMaxUnwelcomedPayload - kFixed) {
        bad("agent and credential do not fit a HELLO of 512 bytes");
    }
}

void check(const ServerOptions& m) {
    if (std::isnan(m.hint_threshold)) bad("a hint threshold is a number");
}

void check(const Tune& m) { check(m.options); }

void check(const Open& m) { check(m.options); }  // a server answers bad sampling parameters by PARAMETER

// Ids are 31 bits and not 0; a parent is an earlier node or, with the committed bit, a length of committed text.
void check(const Block& m) {
    if (m.parents.size != m.tokens.size || m.probabilities.size != m.tokens.size) {
        bad("a block's arrays differ in length");
    }
    if (m.tokens.size == 0) return;
    if (m.first_node == 0 || m.first_node >= kCommittedBit || m.tokens.size > kCommittedBit - m.first_node) {
        bad("a block's node ids do not lie in 1 to 2^31 - 1");
    }
    for (std::size_t i = 0; i < m.parents.size; ++i) {
        const std::uint32_t parent = m.parents.data[i];
        if ((parent & kCommittedBit) == 0 && (parent == 0 || parent >= m.first_node + i)) {
            bad("a block's node does not come after its parent");
        }
    }
}

void check(const Hint& m) { check_share(m.confidence, "a confidence"); }

void check(const Verdict& m) {
    const std::size_t tokens = m.tokens.size, top = m.top_tokens.size;
    if (m.logprobs.size != 0 && m.logprobs.size != tokens) bad("a verdict's arrays differ in length");
    if (m.top_logprobs.size != top) bad("a verdict's arrays differ in length");
    if (top != 0 && (tokens == 0 || top % tokens != 0 || top / tokens > kMaxTopTokens)) {
        bad("a verdict has the same number of likeliest tokens for each token, 20 at most");
    }
    if (m.finish > FinishReason::kError) bad("a verdict ends for no known reason");
}

void check(const Close& m) {
    if (m.reason > FinishReason::kError) bad("a session closes for no known reason");
}

template <std::size_t I = 0>
AnyMessage decode_as(std::uint8_t type, const std::uint8_t* payload, std::size_t bytes) {
    if constexpr (I == std::variant_size_v<AnyMessage>) {
        bad("a frame has an unknown type");
    } else {
        using Candidate = std::variant_alternative_t<I, AnyMessage>;
        if (static_cast<std::uint8_t>(Candidate::kType) == type) return decode<Candidate>(payload, bytes);
        return decode_as<I + 1>(type, payload, bytes);
    }
}

template <class M>
std::size_t payload_bytes(const M& message) {
    Writer<M> counter(message, nullptr);
    M::layout(counter);
    return counter.bytes();
}

}  // namespace

template <class M>
std::size_t frame_bytes(const M& message) {
    return kHeaderBytes + padded(payload_bytes(message));
}

template <class M>
void encode(std::uint16_t channel, const M& message, std::uint8_t* frame) {
    check(message);
    const std::size_t bytes = payload_bytes(message);
    if (bytes > kMaxPayload) bad("the message is too long for a frame");
    const Header header = {static_cast<std::uint32_t>(bytes), static_cast<std::uint8_t>(M::kType), 0, channel, 0, 0};
    std::memcpy(frame, &header, kHeaderBytes);
    Writer<M> writer(message, frame + kHeaderBytes);
    M::layout(writer);
    writer.reserved(padded(bytes) - bytes);
}

template <class M>
M decode(const std::uint8_t* payload, std::size_t bytes) {
    M message;
    Reader<M> reader(message, payload, bytes);
    M::layout(reader);
    reader.end();
    check(message);
    return message;
}

AnyMessage decode_message(const Header& header, const std::uint8_t* payload) {
    return decode_as(header.type, payload, header.payload_bytes);
}

void check_header(const Header& header, std::size_t max_payload) {
    const std::size_t limit = payload_limit(header.type, max_payload);
    if (header.payload_bytes > limit) {
        bad("a frame's payload of " + std::to_string(header.payload_bytes) + " bytes is over the limit of " +
            std::to_string(limit));
    }
    if (!is_known(header.type)) {
        if ((header.flags & kOptionalFlag) != 0) return;
        bad("a frame has the required, unknown type " + std::to_string(header.type));
    }
    const auto type = static_cast<FrameType>(header.type);
    if (type != FrameType::kError && is_of_session(type) != (header.channel != 0)) {
        bad(is_of_session(type) ? "a session's frame has channel 0"
                                : "a frame for the connection has a session's channel");
    }
}

Parsed next_frame(const std::uint8_t* data, std::size_t bytes, std::size_t max_payload) {
    Parsed parsed;
    if (bytes < kHeaderBytes) return parsed;
    parsed.header = read_header(data);
    check_header(parsed.header, max_payload);
    parsed.frame_bytes += padded(parsed.header.payload_bytes);
    if (bytes >= parsed.frame_bytes) parsed.payload = data + kHeaderBytes;
    return parsed;
}

#define EDGESPEC_FRAME(M)                                            \
    template std::size_t frame_bytes<M>(const M&);                   \
    template void encode<M>(std::uint16_t, const M&, std::uint8_t*); \
    template M decode<M>(const std::uint8_t*, std::size_t);

EDGESPEC_FRAME(Hello)
EDGESPEC_FRAME(Welcome)
EDGESPEC_FRAME(Open)
EDGESPEC_FRAME(Append)
EDGESPEC_FRAME(Block)
EDGESPEC_FRAME(Hint)
EDGESPEC_FRAME(Verdict)
EDGESPEC_FRAME(Ack)
EDGESPEC_FRAME(Resume)
EDGESPEC_FRAME(Close)
EDGESPEC_FRAME(Ping)
EDGESPEC_FRAME(Pong)
EDGESPEC_FRAME(Goaway)
EDGESPEC_FRAME(Error)
EDGESPEC_FRAME(Tune)
EDGESPEC_FRAME(Fetch)
EDGESPEC_FRAME(File)

}  // namespace edgespec::wire
