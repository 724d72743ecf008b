// The incremental parser: bytes arrive in slabs, whole frames come out as messages that view them.
//
// Bytes are received where they stay. Only the beginning of a frame that a slab's end cut off is moved, to the next
// slab; a frame larger than a slab gets memory of its own, one at a time.
#pragma once

#include <functional>
#include <memory>
#include <variant>
#include <vector>

#include "net/slab.hpp"
#include "wire/codec.hpp"

namespace edgespec::net {

using Message =
    std::variant<wire::Hello, wire::Welcome, wire::Open, wire::Append, wire::Block, wire::Hint, wire::Verdict,
                 wire::Ack, wire::Resume, wire::Close, wire::Ping, wire::Pong, wire::Goaway, wire::Error, wire::Tune>;

// A message and what keeps its views alive.
struct Received {
    std::uint16_t channel = 0;
    Message message;
    std::shared_ptr<const void> lease;
};

Message decode_message(const wire::Header& header, const std::uint8_t* payload);

class Receiver {
 public:
    using Deliver = std::function<void(const wire::Header&, Received&&)>;

    explicit Receiver(std::shared_ptr<SlabPool> pool) : pool_(std::move(pool)) {}

    struct Room {
        std::uint8_t* data = nullptr;
        std::size_t bytes = 0;
    };

    // Where to receive next; no room when the pool is used up: ask again later.
    Room room();

    // So many bytes were received there. Throws wire::BadFrame.
    void received(std::size_t bytes, const Deliver& deliver);

    // A frame has begun and is not complete.
    bool unfinished() const { return filled_ != parsed_; }

    void set_max_payload(std::size_t bytes) { max_payload_ = bytes; }

 private:
    std::uint8_t* base() const { return large_ ? large_->data() : slab_->bytes; }
    std::size_t capacity() const { return large_ ? large_->size() : kSlabBytes; }
    std::shared_ptr<const void> owner() const {
        return large_ ? std::shared_ptr<const void>(large_) : std::shared_ptr<const void>(slab_);
    }

    std::shared_ptr<SlabPool> pool_;
    std::shared_ptr<Slab> slab_;
    std::shared_ptr<std::vector<std::uint8_t>> large_;
    std::size_t parsed_ = 0;
    std::size_t filled_ = 0;
    std::size_t max_payload_ = wire::kMaxUnwelcomedPayload;
};

}  // namespace edgespec::net
