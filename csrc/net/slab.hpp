// A bounded pool of slabs that sockets receive into. Whoever holds a lease keeps its slab, and the pool, alive; a
// pool that is used up makes its sockets wait: nothing is ever allocated beyond its bound.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

namespace edgespec::net {

constexpr std::size_t kSlabBytes = 16 * 1024;
constexpr std::size_t kPieceBytes = 512;  // for who says little

struct alignas(64) Slab {
    std::uint8_t bytes[kSlabBytes];
};

// Memory of one's own, aligned to 64, until the last copy of `bytes` goes.
struct Lease {
    std::shared_ptr<std::uint8_t> bytes;
    std::size_t size = 0;
};

class SlabPool : public std::enable_shared_from_this<SlabPool> {
 public:
    // `most` slabs, and the same number of bytes again (at least one largest frame) for pieces and for frames larger
    // than a slab.
    explicit SlabPool(std::size_t most);

    // A slab, or memory for a frame that is larger; no memory while the pool is used up.
    Lease lease(std::size_t at_least = kSlabBytes);

    // kPieceBytes: what a connection that says little holds while it waits.
    Lease lease_piece() { return lease_bytes(kPieceBytes); }

    std::size_t leased() const;  // slabs, pieces and larger frames, that are out
    std::size_t leased_bytes() const;

 private:
    Lease lease_slab();
    Lease lease_bytes(std::size_t bytes);
    void give_back(Slab* slab);

    mutable std::mutex mutex_;
    const std::size_t most_;
    const std::size_t most_other_bytes_;
    std::size_t made_ = 0;
    std::size_t other_ = 0;
    std::size_t other_bytes_ = 0;
    std::vector<std::unique_ptr<Slab>> free_;
};

}  // namespace edgespec::net
