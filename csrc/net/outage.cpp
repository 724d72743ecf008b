#include "net/outage.hpp"

#include <algorithm>
#include <utility>

namespace edgespec::net {

Outage::Outage(asio::io_context& io, OutageLimits limits, std::function<void()> offline, std::function<void()> given_up)
    : limits_(limits), on_offline_(std::move(offline)), on_given_up_(std::move(given_up)), offline_(io), give_up_(io) {}

void Outage::begin() {
    lasts_ = true;
    began_ = std::chrono::steady_clock::now();
    attempts_ = 0;
    if (limits_.offline_after.count() > 0) {
        offline_.expires_after(limits_.offline_after);
        offline_.async_wait([this](ErrorStatus error) {
            if (!error && lasts_) on_offline_();
        });
    }
    give_up_later();
}

double Outage::end() {
    silence();
    if (!lasts_.exchange(false)) return 0;
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
}

void Outage::silence() {
    offline_.cancel();
    give_up_.cancel();
}

unsigned Outage::failed_rounds(std::size_t servers) const {
    return attempts_ % servers == 0 ? static_cast<unsigned>(attempts_ / servers) : 0;
}

std::chrono::microseconds Outage::pause(unsigned failures) {
    const auto most = std::min(limits_.pause_at_most, limits_.pause_at_least * (1 << std::min(failures - 1, 10u)));
    const double share = std::uniform_real_distribution<double>(0.5, 1.0)(random_);
    return std::chrono::duration_cast<std::chrono::microseconds>(most * share);
}

void Outage::give_up_later() {
    give_up_.expires_after(limits_.give_up_after);
    give_up_.async_wait([this](ErrorStatus error) {
        if (error || !lasts_) return;
        on_given_up_();
        give_up_later();
    });
}

}  // namespace edgespec::net
