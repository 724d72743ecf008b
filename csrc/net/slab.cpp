#include "net/slab.hpp"

#include <algorithm>
#include <new>

#include "wire/frame.hpp"

namespace edgespec::net {

namespace {

constexpr std::align_val_t kAlignment{alignof(Slab)};

}  // namespace

SlabPool::SlabPool(std::size_t most)
    : most_(most), most_other_bytes_(std::max(most * kSlabBytes, wire::kHeaderBytes + wire::kMaxPayload)) {}

Lease SlabPool::lease(std::size_t at_least) { return at_least <= kSlabBytes ? lease_slab() : lease_bytes(at_least); }

Lease SlabPool::lease_slab() {
    std::unique_ptr<Slab> slab;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!free_.empty()) {
            slab = std::move(free_.back());
            free_.pop_back();
        } else if (made_ < most_) {
            slab.reset(new Slab);
            ++made_;
        } else {
            return {};
        }
    }
    std::shared_ptr<Slab> leased(slab.release(), [pool = shared_from_this()](Slab* done) { pool->give_back(done); });
    return {std::shared_ptr<std::uint8_t>(leased, leased->bytes), kSlabBytes};
}

Lease SlabPool::lease_bytes(std::size_t bytes) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (bytes > most_other_bytes_ - other_bytes_) return {};
        other_bytes_ += bytes;
        ++other_;
    }
    const auto free = [pool = shared_from_this(), bytes](std::uint8_t* done) {
        ::operator delete(done, kAlignment);
        const std::lock_guard<std::mutex> lock(pool->mutex_);
        pool->other_bytes_ -= bytes;
        --pool->other_;
    };
    return {std::shared_ptr<std::uint8_t>(static_cast<std::uint8_t*>(::operator new(bytes, kAlignment)), free), bytes};
}

std::size_t SlabPool::leased() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return made_ - free_.size() + other_;
}

std::size_t SlabPool::leased_bytes() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return (made_ - free_.size()) * kSlabBytes + other_bytes_;
}

void SlabPool::give_back(Slab* slab) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.emplace_back(slab);
}

}  // namespace edgespec::net
