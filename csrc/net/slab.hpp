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

struct alignas(64) Slab {
    std::uint8_t bytes[kSlabBytes];
};

class SlabPool : public std::enable_shared_from_this<SlabPool> {
 public:
    explicit SlabPool(std::size_t most) : most_(most) {}

    // A slab of one's own until the last copy of the pointer goes; null when all are leased.
    std::shared_ptr<Slab> lease();

    std::size_t leased() const;

 private:
    void give_back(Slab* slab);

    mutable std::mutex mutex_;
    const std::size_t most_;
    std::size_t made_ = 0;
    std::vector<std::unique_ptr<Slab>> free_;
};

}  // namespace edgespec::net
