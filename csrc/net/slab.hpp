// Bounded memory that sockets receive into. Whoever holds a lease keeps its bytes, and the pool, alive; a pool that is
// used up makes its sockets wait.
//
// A device may hold as much as it leaves free for others: alone half of the pool, beside another one a third.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "net/device_share.hpp"

namespace edgespec::net {

constexpr std::size_t kSlabBytes = 16 * 1024;
constexpr std::size_t kPieceBytes = 512;  // what a connection that says little holds while it waits

// Memory of one's own, aligned to 64, until the last copy of `bytes` goes.
struct Lease {
    std::shared_ptr<std::uint8_t> bytes;
    std::size_t size = 0;
};

class SlabPool : public std::enable_shared_from_this<SlabPool> {
 public:
    // `most` slabs, and the same number of bytes for pieces and for frames larger than a slab; room for some
    // of the largest frames in any case.
    explicit SlabPool(std::size_t most);

    // A piece, a slab, or memory for a frame that is larger; no memory while the pool, or what is the device's of it,
    // is used up. No share: whoever leases has the pool for itself.
    Lease lease(std::size_t at_least = kSlabBytes, std::shared_ptr<DeviceShare> share = nullptr);

    std::size_t leased_bytes() const;
    std::size_t most_bytes() const { return most_; }

 private:
    mutable std::mutex mutex_;
    const std::size_t most_;
    std::size_t leased_ = 0;
};

}  // namespace edgespec::net
