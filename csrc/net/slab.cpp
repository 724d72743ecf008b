#include "net/slab.hpp"

#include <algorithm>
#include <new>

#include "wire/frame.hpp"

namespace edgespec::net {

namespace {

constexpr std::align_val_t kAlignment{64};

}  // namespace

SlabPool::SlabPool(std::size_t most)
    : slabs_{most * kSlabBytes, 0}, others_{std::max(most * kSlabBytes, wire::kHeaderBytes + wire::kMaxPayload), 0} {}

Lease SlabPool::lease(std::size_t at_least) {
    const std::size_t bytes = at_least <= kPieceBytes ? kPieceBytes : std::max(at_least, kSlabBytes);
    Share& share = bytes == kSlabBytes ? slabs_ : others_;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (bytes > share.most - share.leased) return {};
        share.leased += bytes;
    }
    const auto free = [pool = shared_from_this(), &share, bytes](std::uint8_t* done) {
        ::operator delete(done, kAlignment);
        const std::lock_guard<std::mutex> lock(pool->mutex_);
        share.leased -= bytes;
    };
    return {std::shared_ptr<std::uint8_t>(static_cast<std::uint8_t*>(::operator new(bytes, kAlignment)), free), bytes};
}

std::size_t SlabPool::leased_bytes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return slabs_.leased + others_.leased;
}

}  // namespace edgespec::net
