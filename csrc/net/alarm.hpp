// Wakes one sleeping thread at a time that others keep putting off: nobody is woken, and few system calls are made,
// while they do.
#pragma once

#include <sys/timerfd.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <system_error>

namespace edgespec::net {

class Alarm {
 public:
    Alarm() : descriptor_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC)) {
        if (descriptor_ < 0) throw std::system_error(errno, std::generic_category(), "timerfd_create");
    }
    ~Alarm() { ::close(descriptor_); }
    Alarm(const Alarm&) = delete;
    Alarm& operator=(const Alarm&) = delete;

    // Ring after at most this time, if nobody asks again; `anew`: not before half of it has passed either. One thread
    // at a time.
    void ring_within(std::chrono::microseconds grace, bool anew) {
        const auto now = std::chrono::steady_clock::now();
        if (rings_at_ > (anew ? now + grace / 2 : now)) return;
        rings_at_ = now + grace;
        itimerspec when{};
        when.it_value.tv_nsec = std::chrono::nanoseconds(grace).count();
        ::timerfd_settime(descriptor_, 0, &when, nullptr);
    }

    // Until it rings.
    void wait() {
        std::uint64_t times = 0;
        [[maybe_unused]] const auto got = ::read(descriptor_, &times, sizeof times);
    }

 private:
    const int descriptor_;
    std::chrono::steady_clock::time_point rings_at_{};
};

}  // namespace edgespec::net
