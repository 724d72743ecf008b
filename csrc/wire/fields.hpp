// What messages' fields are besides numbers.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "wire/frame.hpp"

namespace edgespec::wire {

template <class T>
struct View {
    const T* data = nullptr;
    std::size_t size = 0;
};

// A string that is no text.
struct Bytes : std::string_view {
    using std::string_view::string_view;
    explicit Bytes(std::string_view bytes) : std::string_view(bytes) {}
};

// A section that a message may have: its number on the wire, its name, and where its bytes are.
template <class Message>
struct SectionKind {
    std::uint16_t number;
    const char* name;
    Bytes Message::* bytes;
};

using Hash = std::array<std::uint8_t, 32>;
using SessionId = std::array<std::uint8_t, 16>;

constexpr std::uint16_t kU16 = 0;  // the types of counts
constexpr std::uint32_t kU32 = 0;

}  // namespace edgespec::wire
