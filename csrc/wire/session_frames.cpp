// The layouts of the frames of a session, as docs/wire-format.md has them.
#include "wire/codec_of_layout.hpp"

namespace edgespec::wire {

// Sections behind a message's arrays: u16 kind, u16 flags, u32 bytes, then the bytes; each begins at a multiple of 8.
// None is known yet.
static void skip_sections(Reader& in, unsigned count) {
    for (; count > 0; --count) {
        in.align();
        in.value<std::uint16_t>();
        if ((in.value<std::uint16_t>() & kOptionalFlag) == 0) bad("a frame has a section that is required and unknown");
        in.text(in.value<std::uint32_t>());
    }
}

template <class Out>
void put_options(Out& out, const ServerOptions& m) {
    out.value(m.flags);
    out.value(m.hint_threshold);
    out.value(m.max_wait_us);
    out.value(std::uint32_t{0});
}

static ServerOptions get_options(Reader& in) {
    ServerOptions m;
    m.flags = in.value<std::uint32_t>();
    m.hint_threshold = in.value<float>();
    m.max_wait_us = in.value<std::uint32_t>();
    in.value<std::uint32_t>();
    if (std::isnan(m.hint_threshold)) bad("a hint threshold is a number");
    return m;
}

template <class Out>
void put(Out& out, const Open& m) {
    out.value(m.session_id);
    out.value(m.temperature);
    out.value(m.top_p);
    out.value(m.min_p);
    out.value(m.repetition_penalty);
    out.value(m.seed);
    out.value(m.top_k);
    out.value(m.max_new_tokens);
    put_options(out, m.options);
    out.value(narrow<std::uint32_t>(m.tokens.size, "the prompt"));
    out.value(narrow<std::uint32_t>(m.logit_bias.size, "the logit bias"));
    out.value(std::uint16_t{0});
    out.value(m.flags);
    out.value(m.latency_us);
    out.array(m.tokens);
    out.array(m.logit_bias);
}

static void get(Reader& in, Open& m) {
    m.session_id = in.value<SessionId>();
    m.temperature = in.value<double>();
    m.top_p = in.value<double>();
    m.min_p = in.value<double>();
    m.repetition_penalty = in.value<double>();
    m.seed = in.value<std::uint64_t>();
    m.top_k = in.value<std::uint32_t>();
    m.max_new_tokens = in.value<std::uint32_t>();
    m.options = get_options(in);
    const auto tokens = in.value<std::uint32_t>();
    const auto biases = in.value<std::uint32_t>();
    const auto sections = in.value<std::uint16_t>();
    m.flags = in.value<std::uint16_t>();
    m.latency_us = in.value<std::uint32_t>();
    m.tokens = in.array<std::int32_t>(tokens);
    m.logit_bias = in.array<Bias>(biases);
    skip_sections(in, sections);
    if (!std::isfinite(m.temperature) || m.temperature < 0) bad("a temperature is 0 or more");
    check_share(m.top_p, "top_p");
    check_share(m.min_p, "min_p");
    if (!std::isfinite(m.repetition_penalty) || m.repetition_penalty <= 0) bad("a repetition penalty is above 0");
}

template <class Out>
void put(Out& out, const Append& m) {
    out.value(m.keep_length);
    out.value(m.max_new_tokens);
    out.value(narrow<std::uint32_t>(m.tokens.size, "the turn"));
    out.value(m.turn);
    out.value(std::uint16_t{0});
    out.array(m.tokens);
}

static void get(Reader& in, Append& m) {
    m.keep_length = in.value<std::uint32_t>();
    m.max_new_tokens = in.value<std::uint32_t>();
    const auto tokens = in.value<std::uint32_t>();
    m.turn = in.value<std::uint16_t>();
    in.value<std::uint16_t>();
    m.tokens = in.array<std::int32_t>(tokens);
}

// Ids are 31 bits and not 0; a parent is an earlier node or, with the committed bit, a length of committed text.
static void check_nodes(const Block& m) {
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

template <class Out>
void put(Out& out, const Block& m) {
    if (m.parents.size != m.tokens.size || m.probabilities.size != m.tokens.size)
        bad("a block's arrays differ in length");
    check_nodes(m);
    out.value(m.first_node);
    out.value(narrow<std::uint16_t>(m.tokens.size, "the block"));
    out.value(std::uint16_t{0});
    out.array(m.tokens);
    out.array(m.parents);
    out.array(m.probabilities);
}

static void get(Reader& in, Block& m) {
    m.first_node = in.value<std::uint32_t>();
    const auto count = in.value<std::uint16_t>();
    const auto sections = in.value<std::uint16_t>();
    m.tokens = in.array<std::int32_t>(count);
    m.parents = in.array<std::uint32_t>(count);
    m.probabilities = in.array<std::uint8_t>(count);
    skip_sections(in, sections);
    check_nodes(m);
}

template <class Out>
void put(Out& out, const Hint& m) {
    out.value(m.base_length);
    out.value(m.node);
    out.value(m.token);
    out.value(m.confidence);
    out.value(m.layer);
    out.value(m.turn);
    out.value(m.clock_us);
}

static void get(Reader& in, Hint& m) {
    m.base_length = in.value<std::uint32_t>();
    m.node = in.value<std::uint32_t>();
    m.token = in.value<std::int32_t>();
    m.confidence = in.value<float>();
    m.layer = in.value<std::uint16_t>();
    m.turn = in.value<std::uint16_t>();
    m.clock_us = in.value<std::uint32_t>();
    check_share(m.confidence, "a confidence");
}

template <class Out>
void put(Out& out, const Verdict& m) {
    if (m.logprobs.size != 0 && m.logprobs.size != m.tokens.size) bad("a verdict's arrays differ in length");
    out.value(m.base_length);
    out.value(m.forwards);
    out.value(m.forward_us);
    out.value(m.clock_us);
    out.value(m.rows);
    out.value(m.turn);
    out.value(narrow<std::uint16_t>(m.tokens.size, "the verdict"));
    out.value(m.finish);
    out.value(static_cast<std::uint8_t>(m.logprobs.size != 0));
    out.array(m.tokens);
    out.array(m.logprobs);
}

static void get(Reader& in, Verdict& m) {
    m.base_length = in.value<std::uint32_t>();
    m.forwards = in.value<std::uint32_t>();
    m.forward_us = in.value<std::uint32_t>();
    m.clock_us = in.value<std::uint32_t>();
    m.rows = in.value<std::uint16_t>();
    m.turn = in.value<std::uint16_t>();
    const auto count = in.value<std::uint16_t>();
    m.finish = in.value<FinishReason>();
    const bool logprobs = (in.value<std::uint8_t>() & 1) != 0;
    m.tokens = in.array<std::int32_t>(count);
    if (logprobs) m.logprobs = in.array<float>(count);
    if (m.finish > FinishReason::kError) bad("a verdict ends for no known reason");
}

template <class Out>
void put(Out& out, const Tune& m) {
    put_options(out, m.options);
}

static void get(Reader& in, Tune& m) { m.options = get_options(in); }

template <class Out>
void put(Out& out, const Resume& m) {
    out.value(m.session_id);
    out.value(m.last_sequence);
    out.value(std::uint32_t{0});
}

static void get(Reader& in, Resume& m) {
    m.session_id = in.value<SessionId>();
    m.last_sequence = in.value<std::uint32_t>();
    in.value<std::uint32_t>();
}

template <class Out>
void put(Out& out, const Close& m) {
    out.value(m.reason);
    out.value(std::array<std::uint8_t, 7>{});
}

static void get(Reader& in, Close& m) {
    m.reason = in.value<FinishReason>();
    in.value<std::array<std::uint8_t, 7>>();
    if (m.reason > FinishReason::kError) bad("a session closes for no known reason");
}

template <class Out>
void put(Out&, const Ack&) {}
static void get(Reader&, Ack&) {}

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
