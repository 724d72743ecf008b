#include "wire/codec.hpp"

#include <cmath>

namespace edgespec::wire {

namespace {

[[noreturn]] void bad(const std::string& what) { throw BadFrame(what); }

// Counts what a Writer would write.
class Sizer {
 public:
    template <class T>
    void value(const T&) {
        bytes += sizeof(T);
    }
    template <class T>
    void array(View<T> view) {
        bytes += view.size * sizeof(T);
    }
    void text(std::string_view view) { bytes += view.size(); }
    void align() { bytes = padded(bytes); }

    std::size_t bytes = 0;
};

class Writer {
 public:
    explicit Writer(std::uint8_t* start) : start_(start), at_(start) {}
    template <class T>
    void value(const T& value) {
        put(&value, sizeof(T));
    }
    template <class T>
    void array(View<T> view) {
        put(view.data, view.size * sizeof(T));
    }
    void text(std::string_view view) { put(view.data(), view.size()); }
    void align() {
        while ((at_ - start_) % 8 != 0) *at_++ = 0;
    }

 private:
    void put(const void* data, std::size_t bytes) {
        if (bytes != 0) std::memcpy(at_, data, bytes);
        at_ += bytes;
    }
    std::uint8_t* start_;
    std::uint8_t* at_;
};

class Reader {
 public:
    Reader(const std::uint8_t* payload, std::size_t bytes) : start_(payload), bytes_(bytes) {}
    template <class T>
    T value() {
        T value;
        std::memcpy(&value, take(sizeof(T)), sizeof(T));
        return value;
    }
    template <class T>
    View<T> array(std::size_t count) {
        if (count > left() / sizeof(T)) bad("an array is longer than its frame");
        return {reinterpret_cast<const T*>(take(count * sizeof(T))), count};
    }
    std::string_view text(std::size_t bytes) { return {reinterpret_cast<const char*>(take(bytes)), bytes}; }
    void align() {
        while (at_ % 8 != 0) take(1);
    }
    std::size_t left() const { return bytes_ - at_; }
    void end() const {
        if (left() != 0) bad("a frame is longer than what it says");
    }

 private:
    const std::uint8_t* take(std::size_t bytes) {
        if (bytes > left()) bad("a frame is shorter than what it says");
        at_ += bytes;
        return start_ + at_ - bytes;
    }
    const std::uint8_t* start_;
    std::size_t bytes_;
    std::size_t at_ = 0;
};

template <class Int>
Int narrow(std::size_t value, const char* what) {
    if (value > std::numeric_limits<Int>::max()) bad(std::string(what) + " is too long");
    return static_cast<Int>(value);
}

void check_share(double value, const char* what) {
    if (!(value >= 0 && value <= 1)) bad(std::string(what) + " lies outside 0 to 1");
}

// One `put` and one `get` a message, in the order of docs/wire-format.md.

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

void get(Reader& in, Hello& m) {
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

void get(Reader& in, Welcome& m) {
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
void put(Out& out, const Open& m) {
    out.value(m.session_id);
    out.value(m.temperature);
    out.value(m.top_p);
    out.value(m.min_p);
    out.value(m.repetition_penalty);
    out.value(m.seed);
    out.value(m.top_k);
    out.value(m.max_new_tokens);
    out.value(m.hint_threshold);
    out.value(m.flags);
    out.value(narrow<std::uint32_t>(m.tokens.size, "the prompt"));
    out.value(narrow<std::uint32_t>(m.logit_bias.size, "the logit bias"));
    out.array(m.tokens);
    out.array(m.logit_bias);
}

void get(Reader& in, Open& m) {
    m.session_id = in.value<SessionId>();
    m.temperature = in.value<double>();
    m.top_p = in.value<double>();
    m.min_p = in.value<double>();
    m.repetition_penalty = in.value<double>();
    m.seed = in.value<std::uint64_t>();
    m.top_k = in.value<std::uint32_t>();
    m.max_new_tokens = in.value<std::uint32_t>();
    m.hint_threshold = in.value<float>();
    m.flags = in.value<std::uint32_t>();
    const auto tokens = in.value<std::uint32_t>();
    const auto biases = in.value<std::uint32_t>();
    m.tokens = in.array<std::int32_t>(tokens);
    m.logit_bias = in.array<Bias>(biases);
    if (!std::isfinite(m.temperature) || m.temperature < 0) bad("a temperature is 0 or more");
    check_share(m.top_p, "top_p");
    check_share(m.min_p, "min_p");
    if (!std::isfinite(m.repetition_penalty) || m.repetition_penalty <= 0) bad("a repetition penalty is above 0");
    if (std::isnan(m.hint_threshold)) bad("a hint threshold is a number");
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

void get(Reader& in, Append& m) {
    m.keep_length = in.value<std::uint32_t>();
    m.max_new_tokens = in.value<std::uint32_t>();
    const auto tokens = in.value<std::uint32_t>();
    m.turn = in.value<std::uint16_t>();
    in.value<std::uint16_t>();
    m.tokens = in.array<std::int32_t>(tokens);
}

template <class Out>
void put(Out& out, const Block& m) {
    if (m.parents.size != m.tokens.size || m.chances.size != m.tokens.size) bad("a block's arrays differ in length");
    out.value(m.first_node);
    out.value(narrow<std::uint16_t>(m.tokens.size, "the block"));
    out.value(std::uint16_t{0});
    out.array(m.tokens);
    out.array(m.parents);
    out.array(m.chances);
}

// Sections behind the nodes: u16 kind, u16 flags, u32 bytes, then the bytes, padded to 8. None is known yet.
void skip_sections(Reader& in, unsigned count) {
    for (; count > 0; --count) {
        in.align();
        in.value<std::uint16_t>();
        if ((in.value<std::uint16_t>() & kOptionalFlag) == 0) bad("a block has a section that is required and unknown");
        in.text(in.value<std::uint32_t>());
    }
}

void get(Reader& in, Block& m) {
    m.first_node = in.value<std::uint32_t>();
    const auto count = in.value<std::uint16_t>();
    const auto sections = in.value<std::uint16_t>();
    m.tokens = in.array<std::int32_t>(count);
    m.parents = in.array<std::uint32_t>(count);
    m.chances = in.array<std::uint8_t>(count);
    skip_sections(in, sections);
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

void get(Reader& in, Hint& m) {
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

void get(Reader& in, Verdict& m) {
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
void put(Out&, const Ack&) {}
void get(Reader&, Ack&) {}

template <class Out>
void put(Out& out, const Resume& m) {
    out.value(m.session_id);
    out.value(m.last_sequence);
    out.value(std::uint32_t{0});
}

void get(Reader& in, Resume& m) {
    m.session_id = in.value<SessionId>();
    m.last_sequence = in.value<std::uint32_t>();
    in.value<std::uint32_t>();
}

template <class Out>
void put(Out& out, const Close& m) {
    out.value(m.reason);
    out.value(std::array<std::uint8_t, 7>{});
}

void get(Reader& in, Close& m) {
    m.reason = in.value<FinishReason>();
    in.value<std::array<std::uint8_t, 7>>();
    if (m.reason > FinishReason::kError) bad("a session closes for no known reason");
}

template <class Out>
void put(Out& out, const Ping& m) {
    out.value(m.clock_ns);
}

void get(Reader& in, Ping& m) { m.clock_ns = in.value<std::uint64_t>(); }

template <class Out>
void put(Out& out, const Pong& m) {
    out.value(m.clock_ns);
    out.value(m.clock_us);
    out.value(std::uint32_t{0});
}

void get(Reader& in, Pong& m) {
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

void get(Reader& in, Goaway& m) {
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

void get(Reader& in, Error& m) {
    m.code = in.value<ErrorCode>();
    m.retryable = in.value<std::uint8_t>() != 0;
    in.value<std::uint8_t>();
    m.retry_after_ms = in.value<std::uint32_t>();
    const auto bytes = in.value<std::uint32_t>();
    in.value<std::uint32_t>();
    m.message = in.text(bytes);
    if (m.code < ErrorCode::kProtocol || m.code > ErrorCode::kDraining) bad("an error has no known code");
}

template <class Out>
void put(Out& out, const Tune& m) {
    out.value(m.hint_threshold);
    out.value(m.flags);
    out.value(m.patience_us);
    out.value(std::uint32_t{0});
}

void get(Reader& in, Tune& m) {
    m.hint_threshold = in.value<float>();
    m.flags = in.value<std::uint32_t>();
    m.patience_us = in.value<std::uint32_t>();
    in.value<std::uint32_t>();
    if (std::isnan(m.hint_threshold)) bad("a hint threshold is a number");
}

}  // namespace

template <class Message>
std::size_t frame_bytes(const Message& message) {
    Sizer sizer;
    put(sizer, message);
    return kHeaderBytes + padded(sizer.bytes);
}

template <class Message>
void encode(std::uint16_t channel, const Message& message, std::uint8_t* frame) {
    Sizer sizer;
    put(sizer, message);
    if (sizer.bytes > kMaxPayload) bad("the message is too long for a frame");
    const Header header = {
        static_cast<std::uint32_t>(sizer.bytes), static_cast<std::uint8_t>(Message::kType), 0, channel, 0, 0};
    Writer writer(frame);
    writer.value(header);
    put(writer, message);
    writer.align();
}

template <class Message>
Message decode(const std::uint8_t* payload, std::size_t bytes) {
    Reader reader(payload, bytes);
    Message message;
    get(reader, message);
    reader.end();
    return message;
}

void check_header(const Header& header, std::size_t max_payload) {
    if (header.payload_bytes > max_payload) {
        bad("a frame of " + std::to_string(header.payload_bytes) + " bytes is over the limit of " +
            std::to_string(max_payload));
    }
    if (!is_known(header.type) && (header.flags & kOptionalFlag) == 0) {
        bad("a frame has the required, unknown type " + std::to_string(header.type));
    }
}

#define EDGESPEC_MESSAGE(Message)                                                \
    template std::size_t frame_bytes<Message>(const Message&);                   \
    template void encode<Message>(std::uint16_t, const Message&, std::uint8_t*); \
    template Message decode<Message>(const std::uint8_t*, std::size_t);
EDGESPEC_MESSAGE(Hello)
EDGESPEC_MESSAGE(Welcome)
EDGESPEC_MESSAGE(Open)
EDGESPEC_MESSAGE(Append)
EDGESPEC_MESSAGE(Block)
EDGESPEC_MESSAGE(Hint)
EDGESPEC_MESSAGE(Verdict)
EDGESPEC_MESSAGE(Ack)
EDGESPEC_MESSAGE(Resume)
EDGESPEC_MESSAGE(Close)
EDGESPEC_MESSAGE(Ping)
EDGESPEC_MESSAGE(Pong)
EDGESPEC_MESSAGE(Goaway)
EDGESPEC_MESSAGE(Error)
EDGESPEC_MESSAGE(Tune)
#undef EDGESPEC_MESSAGE

}  // namespace edgespec::wire
