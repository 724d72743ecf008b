// The layouts of the frames of a session, as docs/wire-format.md has them.
#include "wire/codec_of_layout.hpp"

namespace edgespec::wire {

template <class Io, class M>
void layout(Io& io, M& m, const ServerOptions&) {
    io.value(m.flags);
    io.value(m.hint_threshold);
    io.value(m.max_wait_us);
    io.reserved(4);
    if (Io::kReads && std::isnan(m.hint_threshold)) bad("a hint threshold is a number");
}

template <class Io, class M>
void layout(Io& io, M& m, const Open&) {
    io.value(m.session_id);
    io.value(m.temperature);
    io.value(m.top_p);
    io.value(m.min_p);
    io.value(m.repetition_penalty);
    io.value(m.seed);
    io.value(m.top_k);
    io.value(m.max_new_tokens);
    layout(io, m.options, m.options);
    const auto tokens = io.template count<std::uint32_t>(m.tokens.size, "the prompt");
    const auto biases = io.template count<std::uint32_t>(m.logit_bias.size, "the logit bias");
    const auto sections = io.template count<std::uint16_t>(0, "");
    io.value(m.flags);
    io.value(m.latency_us);
    io.array(m.tokens, tokens);
    io.array(m.logit_bias, biases);
    io.skip_sections(sections);
    if (!Io::kReads) return;
    if (!std::isfinite(m.temperature) || m.temperature < 0) bad("a temperature is 0 or more");
    check_share(m.top_p, "top_p");
    check_share(m.min_p, "min_p");
    if (!std::isfinite(m.repetition_penalty) || m.repetition_penalty <= 0) bad("a repetition penalty is above 0");
}

template <class Io, class M>
void layout(Io& io, M& m, const Append&) {
    io.value(m.keep_length);
    io.value(m.max_new_tokens);
    const auto tokens = io.template count<std::uint32_t>(m.tokens.size, "the turn");
    io.value(m.turn);
    io.reserved(2);
    io.array(m.tokens, tokens);
}

// Ids are 31 bits and not 0; a parent is an earlier node or, with the committed bit, a length of committed text.
static void check_nodes(const Block& m) {
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

template <class Io, class M>
void layout(Io& io, M& m, const Block&) {
    if (!Io::kReads) check_nodes(m);
    io.value(m.first_node);
    const auto count = io.template count<std::uint16_t>(m.tokens.size, "the block");
    const auto sections = io.template count<std::uint16_t>(0, "");
    io.array(m.tokens, count);
    io.array(m.parents, count);
    io.array(m.probabilities, count);
    io.skip_sections(sections);
    if (Io::kReads) check_nodes(m);
}

template <class Io, class M>
void layout(Io& io, M& m, const Hint&) {
    io.value(m.base_length);
    io.value(m.node);
    io.value(m.token);
    io.value(m.confidence);
    io.value(m.layer);
    io.value(m.turn);
    io.value(m.clock_us);
    if (Io::kReads) check_share(m.confidence, "a confidence");
}

template <class Io, class M>
void layout(Io& io, M& m, const Verdict&) {
    io.value(m.base_length);
    io.value(m.forwards);
    io.value(m.forward_us);
    io.value(m.clock_us);
    io.value(m.rows);
    io.value(m.turn);
    const auto count = io.template count<std::uint16_t>(m.tokens.size, "the verdict");
    io.value(m.finish);
    auto flags = static_cast<std::uint8_t>(m.logprobs.size != 0 ? 1 : 0);
    io.value(flags);
    io.array(m.tokens, count);
    io.array(m.logprobs, (flags & 1) != 0 ? count : 0);
    if (m.logprobs.size != 0 && m.logprobs.size != m.tokens.size) bad("a verdict's arrays differ in length");
    if (Io::kReads && m.finish > FinishReason::kError) bad("a verdict ends for no known reason");
}

template <class Io, class M>
void layout(Io& io, M& m, const Tune&) {
    layout(io, m.options, m.options);
}

template <class Io, class M>
void layout(Io& io, M& m, const Resume&) {
    io.value(m.session_id);
    io.value(m.last_sequence);
    io.reserved(4);
}

template <class Io, class M>
void layout(Io& io, M& m, const Close&) {
    io.value(m.reason);
    io.reserved(7);
    if (Io::kReads && m.reason > FinishReason::kError) bad("a session closes for no known reason");
}

template <class Io, class M>
void layout(Io&, M&, const Ack&) {}

EDGESPEC_FRAME(Open)
EDGESPEC_FRAME(Append)
EDGESPEC_FRAME(Block)
EDGESPEC_FRAME(Hint)
EDGESPEC_FRAME(Verdict)
EDGESPEC_FRAME(Tune)
EDGESPEC_FRAME(Resume)
EDGESPEC_FRAME(Close)
EDGESPEC_FRAME(Ack)

}  // namespace edgespec::wire
