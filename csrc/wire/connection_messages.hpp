// The messages that speak for the connection.
#pragma once

#include "wire/fields.hpp"

namespace edgespec::wire {

struct Hello {
    static constexpr FrameType kType = FrameType::kHello;
    std::uint16_t version_min = kProtocolVersion, version_max = kProtocolVersion;
    std::uint32_t features = 0;
    Hash vocabulary_hash{};
    std::string_view agent;
    Bytes credential;

    template <class Io>
    static void layout(Io& io) {
        io.magic();
        io.value("version_min", &Hello::version_min);
        io.value("version_max", &Hello::version_max);
        io.value("features", &Hello::features);
        const auto agent = io.count(kU16, &Hello::agent), credential = io.count(kU16, &Hello::credential);
        io.value("vocabulary_hash", &Hello::vocabulary_hash);
        io.text("agent", &Hello::agent, agent);
        io.text("credential", &Hello::credential, credential);
    }
};

struct Welcome {
    static constexpr FrameType kType = FrameType::kWelcome;
    std::uint16_t version = kProtocolVersion, layers = 0;
    bool hosts_draft = false, shared_memory = false;
    std::uint32_t context_length = 0, vocabulary_size = 0, max_frame_bytes = 0, max_block_nodes = 0;
    Hash vocabulary_hash{}, tokenizer_hash{};
    View<std::int32_t> end_tokens;
    View<std::uint16_t> exit_layers;
    std::string_view target_id;
    Bytes sampling, pictures;  // sections: parameters that are recommended; how pictures are taken, empty: not at all

    template <class Io>
    static void layout(Io& io) {
        io.value("version", &Welcome::version);
        io.value("layers", &Welcome::layers);
        io.bits(kU32, "hosts_draft", &Welcome::hosts_draft, "shared_memory", &Welcome::shared_memory);
        io.value("context_length", &Welcome::context_length);
        io.value("vocabulary_size", &Welcome::vocabulary_size);
        io.value("max_frame_bytes", &Welcome::max_frame_bytes);
        io.value("max_block_nodes", &Welcome::max_block_nodes);
        const auto ends = io.count(kU16, &Welcome::end_tokens), exits = io.count(kU16, &Welcome::exit_layers);
        const auto name = io.count(kU16, &Welcome::target_id);
        const SectionKind<Welcome> sampling{1, "sampling", &Welcome::sampling};
        const SectionKind<Welcome> pictures{2, "pictures", &Welcome::pictures};
        const auto sections = io.section_count(sampling, pictures);
        io.value("vocabulary_hash", &Welcome::vocabulary_hash);
        io.value("tokenizer_hash", &Welcome::tokenizer_hash);
        io.array("end_tokens", &Welcome::end_tokens, ends);
        io.array("exit_layers", &Welcome::exit_layers, exits);
        io.text("target_id", &Welcome::target_id, name);
        io.sections(sections, sampling, pictures);
    }
};

struct Ping {
    static constexpr FrameType kType = FrameType::kPing;
    std::uint64_t clock_ns = 0;  // the sender's; comes back in the PONG

    template <class Io>
    static void layout(Io& io) {
        io.value("clock_ns", &Ping::clock_ns);
    }
};

struct Pong {
    static constexpr FrameType kType = FrameType::kPong;
    std::uint64_t clock_ns = 0;
    std::uint32_t clock_us = 0;  // the answering side's

    template <class Io>
    static void layout(Io& io) {
        io.value("clock_ns", &Pong::clock_ns);
        io.value("clock_us", &Pong::clock_us);
        io.reserved(4);
    }
};

struct Goaway {
    static constexpr FrameType kType = FrameType::kGoaway;
    std::uint32_t retry_after_ms = 0;
    std::string_view message;

    template <class Io>
    static void layout(Io& io) {
        io.value("retry_after_ms", &Goaway::retry_after_ms);
        io.text("message", &Goaway::message, io.count(kU32, &Goaway::message));
    }
};

struct Error {
    static constexpr FrameType kType = FrameType::kError;
    ErrorCode code = ErrorCode::kProtocol;
    bool retryable = false;
    std::uint32_t retry_after_ms = 0;
    std::string_view message;

    template <class Io>
    static void layout(Io& io) {
        io.value("code", &Error::code);
        io.value("retryable", &Error::retryable);
        io.reserved(1);
        io.value("retry_after_ms", &Error::retry_after_ms);
        const auto bytes = io.count(kU32, &Error::message);
        io.reserved(4);
        io.text("message", &Error::message, bytes);
    }
};

// Asks for a part of the target's tokenizer, from byte `first_byte` on.
struct Fetch {
    static constexpr FrameType kType = FrameType::kFetch;
    Hash tokenizer_hash{};
    std::uint32_t first_byte = 0;

    template <class Io>
    static void layout(Io& io) {
        io.value("tokenizer_hash", &Fetch::tokenizer_hash);
        io.value("first_byte", &Fetch::first_byte);
        io.reserved(4);
    }
};

// The answer: bytes of the archive of `total_bytes`.
struct File {
    static constexpr FrameType kType = FrameType::kFile;
    std::uint32_t first_byte = 0, total_bytes = 0;
    Bytes content;

    template <class Io>
    static void layout(Io& io) {
        io.value("first_byte", &File::first_byte);
        io.value("total_bytes", &File::total_bytes);
        const auto bytes = io.count(kU32, &File::content);
        io.reserved(4);
        io.text("content", &File::content, bytes);
    }
};

}  // namespace edgespec::wire
