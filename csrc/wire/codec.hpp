// Encode, decode and find frames: pure functions over memory, no I/O, no allocation. Every length is checked before it
// is believed. Memory that is read is aligned to 8, and views point into it.
#pragma once

#include "wire/messages.hpp"

namespace edgespec::wire {

// Bytes of the whole frame, header and padding included.
template <class Message>
std::size_t frame_bytes(const Message& message);

// Writes the whole frame, sequence and acknowledge left 0 for whoever sends it, into frame_bytes(message) bytes. Throws
// BadFrame when a field does not fit.
template <class Message>
void encode(std::uint16_t channel, const Message& message, std::uint8_t* frame);

// Reads a payload of `bytes` bytes. Throws BadFrame when it is not such a message.
template <class Message>
Message decode(const std::uint8_t* payload, std::size_t bytes);

// The message of a complete frame of a known type. Throws BadFrame.
AnyMessage decode_message(const Header& header, const std::uint8_t* payload);

// Checks a header before its payload is received: length, type, channel. `max_payload` is the limit of frames other
// than OPEN and APPEND. Throws BadFrame when it cannot begin a frame.
void check_header(const Header& header, std::size_t max_payload);

struct Parsed {
    Header header{};
    const std::uint8_t* payload = nullptr;  // null: the frame is not complete
    // Of the whole frame, header and padding included; while the header itself is not complete, the header's.
    std::size_t frame_bytes = kHeaderBytes;
};

// What the bytes received so far begin with; whoever receives asks again when more have come. Throws BadFrame as soon
// as a header is complete and cannot begin a frame, before a byte of payload is waited for.
Parsed next_frame(const std::uint8_t* data, std::size_t bytes, std::size_t max_payload);

}  // namespace edgespec::wire
