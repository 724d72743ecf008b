// Bounded memory that sockets receive into. Whoever holds a lease keeps its bytes, and the pool, alive; a pool that is
// used up makes its sockets wait.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

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
    // `most` slabs, and beside them as many bytes again, one largest frame at least, for pieces and for frames larger
    // than a slab.
    explicit SlabPool(std::size_t most);

    // A piece, a slab, or memory for a frame that is larger; no memory while the pool is used up.
    Lease lease(std::size_t at_least = kSlabBytes);

    std::size_t leased_bytes() const;

 private:
    struct Share {
        std::size_t most, leased;
    };

    mutable std::mutex mutex_;
    Share slabs_, others_;  // in bytes
};

}  // namespace edgespec::net
