#include "net/receiver.hpp"

#include <cstring>

namespace edgespec::net {

namespace {

template <std::size_t I = 0>
Message decode_as(std::uint8_t type, const std::uint8_t* payload, std::size_t bytes) {
    if constexpr (I == std::variant_size_v<Message>) {
        throw wire::BadFrame("a frame has an unknown type");
    } else {
        using Candidate = std::variant_alternative_t<I, Message>;
        if (static_cast<std::uint8_t>(Candidate::kType) == type) return wire::decode<Candidate>(payload, bytes);
        return decode_as<I + 1>(type, payload, bytes);
    }
}

}  // namespace

Message decode_message(const wire::Header& header, const std::uint8_t* payload) {
    return decode_as(header.type, payload, header.payload_bytes);
}

Receiver::Room Receiver::room() {
    const std::size_t rest = filled_ - parsed_;
    std::size_t frame = wire::kHeaderBytes;
    if (rest >= wire::kHeaderBytes) frame += wire::padded(wire::read_header(base() + parsed_).payload_bytes);
    const bool fits = (slab_ || large_) && parsed_ + frame <= capacity() && filled_ < capacity();
    if (!fits && frame > kSlabBytes) {
        auto larger = std::make_shared<std::vector<std::uint8_t>>(frame);
        if (rest != 0) std::memcpy(larger->data(), base() + parsed_, rest);
        large_ = std::move(larger);
        parsed_ = 0;
        filled_ = rest;
    } else if (!fits) {
        auto next = pool_->lease();
        if (!next) return {};
        if (rest != 0) std::memcpy(next->bytes, base() + parsed_, rest);
        slab_ = std::move(next);
        large_.reset();
        parsed_ = 0;
        filled_ = rest;
    }
    return {base() + filled_, capacity() - filled_};
}

void Receiver::received(std::size_t bytes, const Deliver& deliver) {
    filled_ += bytes;
    while (filled_ - parsed_ >= wire::kHeaderBytes) {
        const wire::Header header = wire::read_header(base() + parsed_);
        wire::check_header(header, max_payload_);
        const std::size_t frame = wire::kHeaderBytes + wire::padded(header.payload_bytes);
        if (filled_ - parsed_ < frame) return;
        const std::uint8_t* payload = base() + parsed_ + wire::kHeaderBytes;
        parsed_ += frame;
        if (!wire::is_known(header.type)) continue;
        deliver(header, Received{header.channel, decode_message(header, payload), owner()});
    }
}

}  // namespace edgespec::net
