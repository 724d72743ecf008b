// The connections that have not said who they are, by address (of IPv6: by network). Their number has a limit, for each
// address and in all. A newcomer takes the place of the oldest one, so that many who say nothing keep nobody out for
// long. Pure.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <unordered_map>

#include "net/rate.hpp"

namespace edgespec::net {

struct StrangerLimits {
    std::size_t most = 256;
    std::size_t most_of_address = 64;
    RateLimit arrivals{100, 512};  // connections of one address, whether they say who they are or not
};

class Strangers {
 public:
    explicit Strangers(StrangerLimits limits) : limits_(limits), arrivals_(limits.arrivals) {}

    // Whether this address may connect once more now.
    bool may_arrive(const std::string& address, Rate::Time now) { return arrivals_.take(address, now); }

    // A connection begins; the number of the one that has to go for it, if any.
    std::optional<std::uint64_t> add(const std::string& address, std::uint64_t number) {
        std::optional<std::uint64_t> gone;
        const auto own = waiting_.find(address);
        if (own != waiting_.end() && own->second.size() >= limits_.most_of_address) {
            gone = remove_oldest(address);
        } else if (count_ >= limits_.most) {
            gone = remove_oldest(most_crowded());
        }
        waiting_[address].push_back(number);
        ++count_;
        return gone;
    }

    // The number of one that has to go where there is no room for anybody, if there is one.
    std::optional<std::uint64_t> give_way() {
        return count_ == 0 ? std::nullopt : std::optional(remove_oldest(most_crowded()));
    }

    // It has said who it is, or is gone.
    void remove(const std::string& address, std::uint64_t number) {
        const auto found = waiting_.find(address);
        if (found == waiting_.end()) return;
        auto& numbers = found->second;
        const auto at = std::find(numbers.begin(), numbers.end(), number);
        if (at == numbers.end()) return;
        numbers.erase(at);
        --count_;
        if (numbers.empty()) waiting_.erase(found);
    }

 private:
    std::string most_crowded() const {
        return std::max_element(
                   waiting_.begin(), waiting_.end(),
                   [](const auto& one, const auto& other) { return one.second.size() < other.second.size(); })
            ->first;
    }

    std::uint64_t remove_oldest(const std::string& address) {
        const std::uint64_t oldest = waiting_.at(address).front();
        remove(address, oldest);
        return oldest;
    }

    const StrangerLimits limits_;
    std::size_t count_ = 0;
    std::unordered_map<std::string, std::deque<std::uint64_t>> waiting_;
    Rates arrivals_;
};

}  // namespace edgespec::net
