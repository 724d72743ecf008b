// The frame: a fixed 16-byte little-endian header, then a payload padded to 8 bytes. docs/wire-format.md is the law.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

namespace edgespec::wire {

static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the wire is little-endian and so must be the machine");

constexpr std::uint16_t kProtocolVersion = 1;
constexpr std::uint32_t kMagic = 0x53474445u;  // "EDGS"
constexpr std::uint32_t kCommittedBit = 0x80000000u;
constexpr std::size_t kHeaderBytes = 16;
constexpr std::size_t kMaxUnwelcomedPayload = 496;  // 512 bytes with the header, before WELCOME
constexpr std::size_t kMaxPayload = 1 << 20;        // OPEN and APPEND, which hold prompts; no frame is larger
constexpr std::size_t kMaxTopTokens = 20;           // in a VERDICT, for each of its tokens
constexpr std::uint8_t kOptionalFlag = 0x01;        // an unknown type with this flag is skipped

enum class FrameType : std::uint8_t {
    kHello = 1,
    kWelcome = 2,
    kOpen = 3,
    kAppend = 4,
    kBlock = 5,
    kHint = 6,
    kVerdict = 7,
    kAck = 8,
    kResume = 9,
    kClose = 10,
    kPing = 11,
    kPong = 12,
    kGoaway = 13,
    kError = 14,
    kTune = 15,
    kFetch = 16,
    kFile = 17,
};

enum class ErrorCode : std::uint16_t {
    kProtocol = 1,
    kVersion = 2,
    kVocabulary = 3,
    kCredential = 4,
    kContext = 5,
    kParameter = 6,
    kUnknownSession = 7,
    kOverloaded = 8,
    kInternal = 9,
    kLimit = 10,
    kDraining = 11,
    kUnknownPicture = 12,
};

enum class FinishReason : std::uint8_t { kNone = 0, kStop = 1, kLength = 2, kCancelled = 3, kError = 4 };

struct Header {
    std::uint32_t payload_bytes;  // without the padding
    std::uint8_t type;
    std::uint8_t flags;
    std::uint16_t channel;      // the session's number on this connection; 0: the connection itself
    std::uint32_t sequence;     // rises by one per sequenced frame, channel and direction; 0: not sequenced
    std::uint32_t acknowledge;  // the highest sequence received on this channel without a gap
};
static_assert(sizeof(Header) == kHeaderBytes);

// A frame breaks the protocol; the text says how.
struct BadFrame : std::runtime_error {
    using std::runtime_error::runtime_error;
};

constexpr std::size_t padded(std::size_t bytes) { return (bytes + 7) & ~std::size_t{7}; }

inline Header read_header(const std::uint8_t* bytes) {
    Header header;
    std::memcpy(&header, bytes, kHeaderBytes);
    return header;
}

// Frames that are counted, acknowledged and delivered once. A HINT may be lost, and ACK, PING and PONG are the link's.
constexpr bool is_sequenced(FrameType type) {
    switch (type) {
        case FrameType::kOpen:
        case FrameType::kAppend:
        case FrameType::kBlock:
        case FrameType::kVerdict:
        case FrameType::kClose:
        case FrameType::kTune:
            return true;
        default:
            return false;
    }
}

// Frames that belong to one session: their channel is not 0. All others but ERROR speak for the connection: channel 0.
constexpr bool is_of_session(FrameType type) {
    switch (type) {
        case FrameType::kHint:
        case FrameType::kAck:
        case FrameType::kResume:
            return true;
        default:
            return is_sequenced(type);
    }
}

constexpr bool is_known(std::uint8_t type) { return type >= 1 && type <= 17; }

// The most payload of a frame of this type where frames may have `max_payload`: prompts may be larger, once welcomed.
constexpr std::size_t payload_limit(std::uint8_t type, std::size_t max_payload) {
    const bool prompt =
        type == static_cast<std::uint8_t>(FrameType::kOpen) || type == static_cast<std::uint8_t>(FrameType::kAppend);
    return prompt && max_payload > kMaxUnwelcomedPayload ? kMaxPayload : max_payload;
}

}  // namespace edgespec::wire
