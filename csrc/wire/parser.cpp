#include "wire/parser.hpp"

#include "wire/fields.hpp"

namespace edgespec::wire {

namespace {

template <std::size_t I = 0>
AnyMessage decode_as(std::uint8_t type, const std::uint8_t* payload, std::size_t bytes) {
    if constexpr (I == std::variant_size_v<AnyMessage>) {
        throw BadFrame("a frame has an unknown type");
    } else {
        using Candidate = std::variant_alternative_t<I, AnyMessage>;
        if (static_cast<std::uint8_t>(Candidate::kType) == type) return decode<Candidate>(payload, bytes);
        return decode_as<I + 1>(type, payload, bytes);
    }
}

void check_channel(FrameType type, std::uint16_t channel) {
    if (type != FrameType::kError && is_of_session(type) != (channel != 0)) {
        bad(channel == 0 ? "a session's frame has channel 0" : "a frame for the connection has a session's channel");
    }
}

}  // namespace

void check_header(const Header& header, std::size_t max_payload) {
    const std::size_t limit = payload_limit(header.type, max_payload);
    if (header.payload_bytes > limit) {
        bad("a frame's payload of " + std::to_string(header.payload_bytes) + " bytes is over the limit of " +
            std::to_string(limit));
    }
    if (!is_known(header.type) && (header.flags & kOptionalFlag) == 0) {
        bad("a frame has the required, unknown type " + std::to_string(header.type));
    }
    if (is_known(header.type)) check_channel(static_cast<FrameType>(header.type), header.channel);
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

AnyMessage decode_message(const Header& header, const std::uint8_t* payload) {
    return decode_as(header.type, payload, header.payload_bytes);
}

}  // namespace edgespec::wire
