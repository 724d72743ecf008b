// The codec of any message whose layout is given: layout(io, message, message) says each field once, in order, and
// counts, writes or reads and checks it as `io` does. EDGESPEC_FRAME(Message) makes its codec, once its layout is
// known.
#pragma once

#include "wire/codec.hpp"
#include "wire/fields.hpp"

namespace edgespec::wire {

template <class Message>
std::size_t frame_bytes(const Message& message) {
    Sizer sizer;
    layout(sizer, message, message);
    return kHeaderBytes + padded(sizer.bytes);
}

template <class Message>
void encode(std::uint16_t channel, const Message& message, std::uint8_t* frame) {
    Sizer sizer;
    layout(sizer, message, message);
    if (sizer.bytes > kMaxPayload) bad("the message is too long for a frame");
    const Header header = {
        static_cast<std::uint32_t>(sizer.bytes), static_cast<std::uint8_t>(Message::kType), 0, channel, 0, 0};
    Writer writer(frame);
    writer.value(header);
    layout(writer, message, message);
    writer.align();
}

template <class Message>
Message decode(const std::uint8_t* payload, std::size_t bytes) {
    Reader reader(payload, bytes);
    Message message;
    layout(reader, message, message);
    reader.end();
    return message;
}

#define EDGESPEC_FRAME(Message)                                                  \
    template std::size_t frame_bytes<Message>(const Message&);                   \
    template void encode<Message>(std::uint16_t, const Message&, std::uint8_t*); \
    template Message decode<Message>(const std::uint8_t*, std::size_t);

}  // namespace edgespec::wire
