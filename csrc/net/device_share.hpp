// What one device takes of a listener, over all its connections: memory, messages that wait, frames a second.
//
// A connection that has not said who it is has a share of its own, and so has each connection where nobody need say it.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>

#include "net/rate.hpp"

namespace edgespec::net {

struct ShareLimits {
    RateLimit frames{10'000, 20'000};  // beyond it the device's connections are read more slowly
    // Of messages that nobody has taken yet. What a device has sent counts until then, also once it has left.
    std::size_t unread_bytes = 1u << 17;
};

class DeviceShare {
 public:
    explicit DeviceShare(const ShareLimits& limits)
        : lane(next_lane()), frames(limits.frames, Rate::Time::clock::now()), most_unread_(limits.unread_bytes) {}

    // Whether more of its frames may be read now.
    bool may_read(Rate::Time now) { return unread <= most_unread_ && !frames.in_debt(now); }

    const std::uint64_t lane;            // of its events, which are taken in turns with those of others
    std::size_t leased = 0;              // bytes of the receive memory; the pool's lock guards it
    std::atomic<std::size_t> unread{0};  // bytes of its messages that nobody has taken yet
    Rate frames;                         // used by the thread that reads

 private:
    static std::uint64_t next_lane() {
        static std::atomic<std::uint64_t> last{0};  // 0 is the lane of those who have not said who they are
        return ++last;
    }

    std::size_t most_unread_;
};

// The shares of the devices that are there, by identity.
class DeviceShares {
 public:
    explicit DeviceShares(ShareLimits limits) : limits_(limits) {}

    std::shared_ptr<DeviceShare> own() const { return std::make_shared<DeviceShare>(limits_); }

    std::shared_ptr<DeviceShare> of(const std::string& identity) {
        std::weak_ptr<DeviceShare>& known = shares_[identity];
        auto share = known.lock();
        if (!share) known = share = own();
        if (shares_.size() > kMostForgotten) forget_those_gone();
        return share;
    }

 private:
    static constexpr std::size_t kMostForgotten = 4096;

    void forget_those_gone() {
        for (auto one = shares_.begin(); one != shares_.end();) {
            one = one->second.expired() ? shares_.erase(one) : std::next(one);
        }
    }

    const ShareLimits limits_;
    std::unordered_map<std::string, std::weak_ptr<DeviceShare>> shares_;
};

}  // namespace edgespec::net
