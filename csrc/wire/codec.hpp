// Encode and decode: pure functions over memory, no I/O, no allocation. Every length is checked before it is believed.
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

// Reads a payload of `bytes` bytes, aligned to 8. Throws BadFrame when it is not such a message. Views point into it.
template <class Message>
Message decode(const std::uint8_t* payload, std::size_t bytes);

// Checks a header before its payload is received: length, type, channel. `max_payload` is the limit of frames other
// than OPEN and APPEND. Throws BadFrame when it cannot begin a frame.
void check_header(const Header& header, std::size_t max_payload);

}  // namespace edgespec::wire
