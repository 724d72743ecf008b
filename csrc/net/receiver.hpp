// Receives where bytes may stay: they arrive in leased memory, whole frames come out as messages that view it.
//
// Only the beginning of a frame that a slab's end cut off is moved, to the next slab; a frame larger than a slab has
// memory of its own, one at a time. While what comes is little it is a small piece of memory, not a slab: thousands of
// connections wait for most of their time. What a device has of all this is its share (device_share.hpp).
#pragma once

#include <atomic>
#include <functional>
#include <memory>

#include "net/slab.hpp"
#include "wire/codec.hpp"

namespace edgespec::net {

using Message = wire::AnyMessage;

// Bytes of a message that nobody has taken yet, in its connection's total and in its device's.
class Unread {
 public:
    using Total = std::shared_ptr<std::atomic<std::size_t>>;

    Unread() = default;
    Unread(Total total, std::shared_ptr<DeviceShare> share, std::size_t bytes)
        : total_(std::move(total)), share_(std::move(share)), bytes_(bytes) {
        *total_ += bytes_;
        if (share_) share_->unread += bytes_;
    }
    Unread(Unread&& other) noexcept
        : total_(std::move(other.total_)), share_(std::move(other.share_)), bytes_(other.bytes_) {}
    Unread& operator=(Unread&& other) noexcept {
        std::swap(total_, other.total_);
        std::swap(share_, other.share_);
        std::swap(bytes_, other.bytes_);
        return *this;
    }
    ~Unread() {
        if (total_) *total_ -= bytes_;
        if (share_) share_->unread -= bytes_;
    }

 private:
    Total total_;
    std::shared_ptr<DeviceShare> share_;
    std::size_t bytes_ = 0;
};

// A message and what keeps its views alive. frame: its bytes, header included.
struct Received {
    std::uint16_t channel = 0;
    Message message;
    std::shared_ptr<const void> lease;
    Unread unread{};
    const std::uint8_t* frame = nullptr;
    std::size_t frame_bytes = 0;
};

// The same message in memory of its own: one that has to wait must not keep a slab.
Received copied(Received&& received);

class Receiver {
 public:
    using Deliver = std::function<void(const wire::Header&, Received&&)>;

    // `most_unread`: bytes that may wait to be taken; beyond that there is no room.
    Receiver(std::shared_ptr<SlabPool> pool, std::size_t most_unread)
        : pool_(std::move(pool)), most_unread_(most_unread) {}

    struct Room {
        std::uint8_t* data = nullptr;
        std::size_t bytes = 0;
    };

    // Where to receive next; no room when the pool is used up or too much is unread: ask again later.
    Room room();
    // Whose share pays from now on; none: nobody's.
    void set_share(std::shared_ptr<DeviceShare> share) { share_ = std::move(share); }

    // `bytes` were received there. Throws wire::BadFrame.
    void received(std::size_t bytes, const Deliver& deliver);

    // A frame has begun and is not complete.
    bool unfinished() const { return filled_ != parsed_; }

    std::uint64_t frames() const { return frames_; }  // completed so far

    // Nothing more will be received: what is leased goes back as soon as its views are gone.
    void release() { memory_ = {}, parsed_ = filled_ = 0; }

    void set_max_payload(std::size_t bytes) { max_payload_ = bytes; }

 private:
    void parse(const Deliver& deliver);

    static constexpr std::size_t kLeastRoom = 192;    // with less a piece is left: most frames would be cut off
    static constexpr std::size_t kBesideFrame = 256;  // what a message takes beside its frame

    std::shared_ptr<SlabPool> pool_;
    std::shared_ptr<DeviceShare> share_;
    const std::size_t most_unread_;
    const Unread::Total unread_ = std::make_shared<std::atomic<std::size_t>>(0);
    Lease memory_;
    std::size_t parsed_ = 0;
    std::size_t filled_ = 0;
    std::size_t frame_ = wire::kHeaderBytes;  // bytes of the frame that has begun, as far as is known
    bool bursting_ = false;                   // all the room was filled: more is on its way
    std::uint64_t frames_ = 0;
    std::size_t max_payload_ = wire::kMaxUnwelcomedPayload;
};

}  // namespace edgespec::net
