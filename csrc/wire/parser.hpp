// The incremental parser: what do the bytes received so far begin with? It keeps no state and copies nothing; whoever
// receives calls it again when more bytes have come. All bytes at once or one at a time give the same frames.
#pragma once

#include <variant>

#include "wire/codec.hpp"

namespace edgespec::wire {

using AnyMessage = std::variant<Hello, Welcome, Open, Append, Block, Hint, Verdict, Ack, Resume, Close, Ping, Pong,
                                Goaway, Error, Tune>;

struct Parsed {
    Header header{};
    const std::uint8_t* payload = nullptr;  // null: the frame is not complete
    // Of the whole frame, header and padding included; while the header itself is not complete, the header's.
    std::size_t frame_bytes = kHeaderBytes;
};

// Looks at `bytes` bytes, aligned to 8. Throws BadFrame as soon as the header is complete and cannot begin a frame
// (see check_header), before a byte of payload is waited for.
Parsed next_frame(const std::uint8_t* data, std::size_t bytes, std::size_t max_payload);

// The message of a complete frame of a known type. Views point into the payload. Throws BadFrame.
AnyMessage decode_message(const Header& header, const std::uint8_t* payload);

}  // namespace edgespec::wire
