// Where an I/O thread leaves things for the caller's thread: a queue to wait on, with an eventfd for event loops.
#pragma once

#include <sys/eventfd.h>
#include <unistd.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>

#include "net/queues.hpp"

namespace edgespec::net {

template <class T, class Queue = Fifo<T>>
class Inbox {
 public:
    ~Inbox() {
        if (descriptor_ >= 0) ::close(descriptor_);
    }

    void push(T item) {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            items_.push(std::move(item));
            signal();
        }
        arrived_.notify_one();
    }

    // Makes one wait, now or next, return with nothing.
    void wake() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            woken_ = true;
            signal();
        }
        arrived_.notify_one();
    }

    // No more will come: waits return at once from now on.
    void close() {
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            closed_ = true;
            signal();
        }
        arrived_.notify_all();
    }

    // False when the time has passed with nothing to take, no wake and no close.
    bool wait_until(std::chrono::steady_clock::time_point deadline) {
        std::unique_lock<std::mutex> lock(mutex_);
        const bool something =
            arrived_.wait_until(lock, deadline, [&] { return !items_.empty() || woken_ || closed_; });
        woken_ = false;
        if (items_.empty() && !closed_) drain();
        return something;
    }

    // Whether a wait would return at once.
    bool ready() {
        const std::lock_guard<std::mutex> lock(mutex_);
        return !items_.empty() || woken_ || closed_;
    }

    std::optional<T> take() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (items_.empty()) return std::nullopt;
        T item = items_.pop();
        if (items_.empty() && !closed_) drain();
        return item;
    }

    // See Lanes::pop_while.
    template <class More, class Wanted, class Piece>
    std::vector<T> take_while(More more, Wanted wanted, Piece piece) {
        const std::lock_guard<std::mutex> lock(mutex_);
        std::vector<T> taken = items_.pop_while(more, wanted, piece);
        if (items_.empty() && !closed_) drain();
        return taken;
    }

    // Readable while there is something to take, or after close.
    int descriptor() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (descriptor_ < 0) {
            descriptor_ = ::eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
            if (!items_.empty() || closed_) signal();
        }
        return descriptor_;
    }

 private:
    void signal() const {
        if (descriptor_ < 0) return;
        const std::uint64_t one = 1;
        [[maybe_unused]] const auto written = ::write(descriptor_, &one, sizeof one);
    }
    void drain() const {
        if (descriptor_ < 0) return;
        std::uint64_t count = 0;
        [[maybe_unused]] const auto got = ::read(descriptor_, &count, sizeof count);
    }

    std::mutex mutex_;
    std::condition_variable arrived_;
    Queue items_;
    bool woken_ = false;
    bool closed_ = false;
    int descriptor_ = -1;
};

}  // namespace edgespec::net
