// The servers that an edge may use, and which of them has its session. All of it on the I/O thread, but `answered`.
#pragma once

#include <algorithm>
#include <array>
#include <mutex>
#include <vector>

#include "net/address.hpp"

namespace edgespec::net {

class Servers {
 public:
    explicit Servers(std::vector<Address> known) : known_(std::move(known)), answered_(known_.front()) {}

    std::size_t size() const { return known_.size(); }
    const Address& operator[](std::size_t index) const { return known_[std::min(index, known_.size() - 1)]; }
    std::size_t at() const { return at_; }  // the one that has the session, or had it last
    Address answered() const {              // the same; from any thread
        const std::lock_guard<std::mutex> lock(mutex_);
        return answered_;
    }

    void found_at(std::size_t index) {
        const std::lock_guard<std::mutex> lock(mutex_);
        at_ = index;
        answered_ = known_[index];
    }
    void move() { at_ = (at_ + 1) % known_.size(); }

    // The present one and these are all there are. `used`: the indexes by which others are called; they become new
    // ones.
    template <std::size_t N>
    void replace(const std::vector<Address>& others, const std::array<std::size_t*, N>& used) {
        std::vector<Address> known{known_[at_]};
        const auto place = [&](const Address& server) {
            const auto found = std::find(known.begin(), known.end(), server);
            const auto index = static_cast<std::size_t>(found - known.begin());
            if (found == known.end()) known.push_back(server);
            return index;
        };
        for (const Address& server : others) place(server);
        for (std::size_t* index : used) *index = place((*this)[*index]);
        known_ = std::move(known);
        at_ = 0;
    }

 private:
    std::vector<Address> known_;
    std::size_t at_ = 0;
    mutable std::mutex mutex_;  // guards what follows
    Address answered_;
};

}  // namespace edgespec::net
