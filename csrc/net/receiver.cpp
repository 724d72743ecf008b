#include "net/receiver.hpp"

#include <algorithm>
#include <cstring>
#include <vector>

namespace edgespec::net {

Receiver::Room Receiver::room() {
    if (*unread_ > most_unread_ || (share_ && !share_->may_read(Rate::Time::clock::now()))) return {};
    const std::size_t rest = filled_ - parsed_, left = memory_.size - filled_;
    const bool fits = parsed_ + frame_ <= memory_.size && left != 0;
    const bool leave = rest == 0 && !bursting_ && (left < kLeastRoom || memory_.size > kPieceBytes);
    if (!fits || leave) {
        Lease next = pool_->lease(bursting_ ? std::max(frame_, kSlabBytes) : frame_, share_);
        if (next.bytes) {
            if (rest != 0) std::memcpy(next.bytes.get(), memory_.bytes.get() + parsed_, rest);
            memory_ = std::move(next);
            parsed_ = 0;
            filled_ = rest;
        } else if (!fits) {
            return {};
        }
    }
    return {memory_.bytes.get() + filled_, memory_.size - filled_};
}

void Receiver::received(std::size_t bytes, const Deliver& deliver) {
    filled_ += bytes;
    bursting_ = filled_ == memory_.size;
    const std::uint64_t frames_before = frames_;
    parse(deliver);
    if (share_) share_->frames.spend(static_cast<double>(frames_ - frames_before), Rate::Time::clock::now());
}

void Receiver::parse(const Deliver& deliver) {
    while (true) {
        const std::uint8_t* begin = memory_.bytes.get() + parsed_;
        const wire::Parsed parsed = wire::next_frame(begin, filled_ - parsed_, max_payload_);
        frame_ = parsed.frame_bytes;
        if (parsed.payload == nullptr) return;
        parsed_ += parsed.frame_bytes;
        ++frames_;
        if (!wire::is_known(parsed.header.type)) continue;
        deliver(parsed.header,
                Received{parsed.header.channel, wire::decode_message(parsed.header, parsed.payload), memory_.bytes,
                         Unread(unread_, share_, parsed.frame_bytes + kBesideFrame), begin, parsed.frame_bytes});
    }
}

Received copied(Received&& received) {
    const auto bytes =
        std::make_shared<std::vector<std::uint8_t>>(received.frame, received.frame + received.frame_bytes);
    const std::uint8_t* const frame = bytes->data();
    auto message = wire::decode_message(wire::read_header(frame), frame + wire::kHeaderBytes);
    return {received.channel, std::move(message), bytes, std::move(received.unread), frame, bytes->size()};
}

}  // namespace edgespec::net
