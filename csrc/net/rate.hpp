// How often something may happen: a bucket that fills steadily and from which every time takes one. Pure.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <iterator>
#include <string>
#include <unordered_map>

namespace edgespec::net {

struct RateLimit {
    double per_second = 0;
    double burst = 0;  // so often at once
};

class Rate {
 public:
    using Time = std::chrono::steady_clock::time_point;

    Rate(RateLimit limit, Time now) : limit_(limit), left_(limit.burst), at_(now) {}

    // False: too often. times: what it counts for; more than are left become a debt.
    bool take(Time now, double times = 1) {
        fill(now);
        if (left_ < 1) return false;
        left_ -= times;
        return true;
    }

    // Something happened already; it may leave a debt.
    void spend(double times, Time now) {
        fill(now);
        left_ -= times;
    }

    bool in_debt(Time now) {
        if (left_ >= 0) return false;
        fill(now);
        return left_ < 0;
    }

    // As if nothing had ever happened.
    bool full(Time now) {
        fill(now);
        return left_ >= limit_.burst;
    }

 private:
    void fill(Time now) {
        const double seconds = std::chrono::duration<double>(now - at_).count();
        left_ = std::min(limit_.burst, left_ + seconds * limit_.per_second);
        at_ = now;
    }

    RateLimit limit_;
    double left_;
    Time at_;
};

// A rate for each of those who do something, by name. When many are known, those who did nothing of late are forgotten.
class Rates {
 public:
    explicit Rates(RateLimit limit) : limit_(limit) {}

    // False: too often for this one.
    bool take(const std::string& who, Rate::Time now, double times = 1) {
        if (rates_.size() >= kMostRemembered) {
            for (auto one = rates_.begin(); one != rates_.end();) {
                one = one->second.full(now) ? rates_.erase(one) : std::next(one);
            }
        }
        return rates_.try_emplace(who, limit_, now).first->second.take(now, times);
    }

 private:
    static constexpr std::size_t kMostRemembered = 4096;

    const RateLimit limit_;
    std::unordered_map<std::string, Rate> rates_;
};

}  // namespace edgespec::net
