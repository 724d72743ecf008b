#include "net/slab.hpp"

#include <algorithm>
#include <new>

#include "wire/frame.hpp"

namespace edgespec::net {

namespace {

constexpr std::align_val_t kAlignment{64};
constexpr std::size_t kLeastLargestFrames = 3;

}  // namespace

SlabPool::SlabPool(std::size_t most)
    : most_(most * kSlabBytes +
            std::max(most * kSlabBytes, kLeastLargestFrames * (wire::kHeaderBytes + wire::kMaxPayload))) {}

Lease SlabPool::lease(std::size_t at_least, std::shared_ptr<DeviceShare> share) {
    const std::size_t bytes = at_least <= kPieceBytes ? kPieceBytes : std::max(at_least, kSlabBytes);
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (bytes > most_ - leased_) return {};
        if (share && share->leased + bytes > most_ - leased_ - bytes) return {};
        leased_ += bytes;
        if (share) share->leased += bytes;
    }
    const auto free = [pool = shared_from_this(), share = std::move(share), bytes](std::uint8_t* done) {
        ::operator delete(done, kAlignment);
        const std::lock_guard<std::mutex> lock(pool->mutex_);
        pool->leased_ -= bytes;
        if (share) share->leased -= bytes;
    };
    return {std::shared_ptr<std::uint8_t>(static_cast<std::uint8_t*>(::operator new(bytes, kAlignment)), free), bytes};
}

std::size_t SlabPool::leased_bytes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return leased_;
}

}  // namespace edgespec::net
