// What frames say: one struct a message. Arrays are views of the payload they were decoded from, or of the caller's
// memory when they are encoded.
//
// layout(io) names a message's fields once, in the order of docs/wire-format.md: the codec counts, writes and reads by
// it (archives.hpp), and the bindings show and take by it (bindings/messages.cpp).
#pragma once

#include <variant>

#include "wire/connection_messages.hpp"
#include "wire/session_messages.hpp"

namespace edgespec::wire {

// In the order of their types' numbers.
using AnyMessage = std::variant<Hello, Welcome, Open, Append, Block, Hint, Verdict, Ack, Resume, Close, Ping, Pong,
                                Goaway, Error, Tune, Fetch, File>;

}  // namespace edgespec::wire
