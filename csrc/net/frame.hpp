// A frame ready to be sent, and the clock of everything here.
#pragma once

#include <chrono>
#include <cstdint>
#include <vector>

#include "wire/codec.hpp"

namespace edgespec::net {

using Frame = std::vector<std::uint8_t>;
using Clock = std::chrono::steady_clock;

// The frame of one message.
template <class M>
Frame frame_of(std::uint16_t channel, const M& message) {
    Frame frame(wire::frame_bytes(message));
    wire::encode(channel, message, frame.data());
    return frame;
}

}  // namespace edgespec::net
