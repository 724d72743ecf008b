// The layouts of the frames that speak for the connection, as docs/wire-format.md has them.
#include "wire/codec_of_layout.hpp"

namespace edgespec::wire {

template <class Io, class M>
void layout(Io& io, M& m, const Hello&) {
    std::uint32_t magic = kMagic;
    io.value(magic);
    if (magic != kMagic) bad("this is not an edgespec HELLO");
    io.value(m.version_min);
    io.value(m.version_max);
    io.value(m.features);
    const auto agent = io.template count<std::uint16_t>(m.agent.size(), "the agent's name");
    const auto credential = io.template count<std::uint16_t>(m.credential.size(), "the credential");
    io.value(m.vocabulary_hash);
    io.text(m.agent, agent);
    io.text(m.credential, credential);
}

template <class Io, class M>
void layout(Io& io, M& m, const Welcome&) {
    io.value(m.version);
    io.value(m.layers);
    io.value(m.features);
    io.value(m.context_length);
    io.value(m.vocabulary_size);
    io.value(m.max_frame_bytes);
    io.value(m.max_block_nodes);
    const auto ends = io.template count<std::uint16_t>(m.end_tokens.size, "the list of end tokens");
    const auto exits = io.template count<std::uint16_t>(m.exit_layers.size, "the list of exits");
    const auto name = io.template count<std::uint32_t>(m.target_id.size(), "the target's name");
    io.value(m.vocabulary_hash);
    io.array(m.end_tokens, ends);
    io.array(m.exit_layers, exits);
    io.text(m.target_id, name);
}

template <class Io, class M>
void layout(Io& io, M& m, const Ping&) {
    io.value(m.clock_ns);
}

template <class Io, class M>
void layout(Io& io, M& m, const Pong&) {
    io.value(m.clock_ns);
    io.value(m.clock_us);
    io.reserved(4);
}

template <class Io, class M>
void layout(Io& io, M& m, const Goaway&) {
    io.value(m.retry_after_ms);
    io.text(m.message, io.template count<std::uint32_t>(m.message.size(), "the message"));
}

template <class Io, class M>
void layout(Io& io, M& m, const Error&) {
    io.value(m.code);
    io.flag(m.retryable);
    io.reserved(1);
    io.value(m.retry_after_ms);
    const auto bytes = io.template count<std::uint32_t>(m.message.size(), "the message");
    io.reserved(4);
    io.text(m.message, bytes);
}

EDGESPEC_FRAME(Hello)
EDGESPEC_FRAME(Welcome)
EDGESPEC_FRAME(Ping)
EDGESPEC_FRAME(Pong)
EDGESPEC_FRAME(Goaway)
EDGESPEC_FRAME(Error)

}  // namespace edgespec::wire
