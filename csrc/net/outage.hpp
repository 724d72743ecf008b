// From when no connection carries the session until one does again: which server is tried next and after what pause,
// and who is told when it lasts.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <random>

#include "net/asio.hpp"
#include "net/limits.hpp"

namespace edgespec::net {

class Outage {
 public:
    // `offline`: it has lasted for `offline_after`; `given_up`: for `give_up_after`, and again that long.
    Outage(asio::io_context& io, OutageLimits limits, std::function<void()> offline, std::function<void()> given_up);

    void begin();
    double end();    // the seconds that it lasted; 0: there was none
    void silence();  // nobody is told any more
    bool lasts() const { return lasts_; }
    void start_over() { attempts_ = 0; }  // another server is the last one now

    // The index of the server to try now: the last one first, then the others in turn.
    std::size_t next_server(std::size_t last, std::size_t servers) { return (last + attempts_++) % servers; }
    // Rounds of all servers that have come to nothing, when one begins; 0 within one.
    unsigned failed_rounds(std::size_t servers) const;
    // How long to wait after this number of failures; with jitter.
    std::chrono::microseconds pause(unsigned failures);

 private:
    void give_up_later();

    const OutageLimits limits_;
    const std::function<void()> on_offline_, on_given_up_;
    std::atomic<bool> lasts_{false};
    std::size_t attempts_ = 0;
    std::chrono::steady_clock::time_point began_;
    asio::steady_timer offline_, give_up_;
    std::mt19937 random_{std::random_device{}()};
};

}  // namespace edgespec::net
