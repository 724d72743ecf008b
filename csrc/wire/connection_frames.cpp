// The layouts of the frames that speak for the connection, as docs/wire-format.md has them.
#include "wire/codec_of_layout.hpp"

namespace edgespec::wire {

template <class Out>
void put(Out& out, const Hello& m) {
    out.value(kMagic);
    out.value(m.version_min);
    out.value(m.version_max);
    out.value(m.features);
    out.value(narrow<std::uint16_t>(m.agent.size(), "the agent's name"));
    out.value(narrow<std::uint16_t>(m.credential.size(), "the credential"));
    out.value(m.vocabulary_hash);
    out.text(m.agent);
    out.text(m.credential);
}

static void get(Reader& in, Hello& m) {
    if (in.value<std::uint32_t>() != kMagic) bad("this is not an edgespec HELLO");
    m.version_min = in.value<std::uint16_t>();
    m.version_max = in.value<std::uint16_t>();
    m.features = in.value<std::uint32_t>();
    const auto agent = in.value<std::uint16_t>();
    const auto credential = in.value<std::uint16_t>();
    m.vocabulary_hash = in.value<Hash>();
    m.agent = in.text(agent);
    m.credential = in.text(credential);
}

template <class Out>
void put(Out& out, const Welcome& m) {
    out.value(m.version);
    out.value(m.layers);
    out.value(m.features);
    out.value(m.context_length);
    out.value(m.vocabulary_size);
    out.value(m.max_frame_bytes);
    out.value(m.max_block_nodes);
    out.value(narrow<std::uint16_t>(m.end_tokens.size, "the list of end tokens"));
    out.value(narrow<std::uint16_t>(m.exit_layers.size, "the list of exits"));
    out.value(narrow<std::uint32_t>(m.target_id.size(), "the target's name"));
    out.value(m.vocabulary_hash);
    out.array(m.end_tokens);
    out.array(m.exit_layers);
    out.text(m.target_id);
}

static void get(Reader& in, Welcome& m) {
    m.version = in.value<std::uint16_t>();
    m.layers = in.value<std::uint16_t>();
    m.features = in.value<std::uint32_t>();
    m.context_length = in.value<std::uint32_t>();
    m.vocabulary_size = in.value<std::uint32_t>();
    m.max_frame_bytes = in.value<std::uint32_t>();
    m.max_block_nodes = in.value<std::uint32_t>();
    const auto ends = in.value<std::uint16_t>();
    const auto exits = in.value<std::uint16_t>();
    const auto name = in.value<std::uint32_t>();
    m.vocabulary_hash = in.value<Hash>();
    m.end_tokens = in.array<std::int32_t>(ends);
    m.exit_layers = in.array<std::uint16_t>(exits);
    m.target_id = in.text(name);
}

template <class Out>
void put(Out& out, const Ping& m) {
    out.value(m.clock_ns);
}

static void get(Reader& in, Ping& m) { m.clock_ns = in.value<std::uint64_t>(); }

template <class Out>
void put(Out& out, const Pong& m) {
    out.value(m.clock_ns);
    out.value(m.clock_us);
    out.value(std::uint32_t{0});
}

static void get(Reader& in, Pong& m) {
    m.clock_ns = in.value<std::uint64_t>();
    m.clock_us = in.value<std::uint32_t>();
    in.value<std::uint32_t>();
}

template <class Out>
void put(Out& out, const Goaway& m) {
    out.value(m.retry_after_ms);
    out.value(narrow<std::uint32_t>(m.message.size(), "the message"));
    out.text(m.message);
}

static void get(Reader& in, Goaway& m) {
    m.retry_after_ms = in.value<std::uint32_t>();
    m.message = in.text(in.value<std::uint32_t>());
}

template <class Out>
void put(Out& out, const Error& m) {
    out.value(m.code);
    out.value(static_cast<std::uint8_t>(m.retryable));
    out.value(std::uint8_t{0});
    out.value(m.retry_after_ms);
    out.value(narrow<std::uint32_t>(m.message.size(), "the message"));
    out.value(std::uint32_t{0});
    out.text(m.message);
}

static void get(Reader& in, Error& m) {
    m.code = in.value<ErrorCode>();
    m.retryable = in.value<std::uint8_t>() != 0;
    in.value<std::uint8_t>();
    m.retry_after_ms = in.value<std::uint32_t>();
    const auto bytes = in.value<std::uint32_t>();
    in.value<std::uint32_t>();
    m.message = in.text(bytes);
}

EDGESPEC_FRAME(Hello)
EDGESPEC_FRAME(Welcome)
EDGESPEC_FRAME(Ping)
EDGESPEC_FRAME(Pong)
EDGESPEC_FRAME(Goaway)
EDGESPEC_FRAME(Error)

}  // namespace edgespec::wire
