#include "net/slab.hpp"

namespace edgespec::net {

std::shared_ptr<Slab> SlabPool::lease() {
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
            return nullptr;
        }
    }
    return {slab.release(), [pool = shared_from_this()](Slab* done) { pool->give_back(done); }};
}

std::size_t SlabPool::leased() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return made_ - free_.size();
}

void SlabPool::give_back(Slab* slab) {
    const std::lock_guard<std::mutex> lock(mutex_);
    free_.emplace_back(slab);
}

}  // namespace edgespec::net
