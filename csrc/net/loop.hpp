// Who runs an I/O context: a thread of its own, or the caller's thread for as long as it waits for the inbox anyway.
//
// A message that the I/O thread hands over costs two thread switches at each end. So a caller that waits runs the
// handlers itself, and the I/O thread takes them back when no caller has come again for `kGrace`: whatever has to
// happen in time never depends on the caller. One thread at a time runs handlers: the one that set `led_` under the
// mutex.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#include "net/asio.hpp"
#include "net/inbox.hpp"

namespace edgespec::net {

template <class T>
class Loop {
 public:
    Loop(asio::io_context& io, Inbox<T>& inbox) : io_(io), inbox_(inbox) {}

    // Begins the I/O thread. With `spin` that thread never sleeps, and never hands over.
    void start(bool spin = false) {
        spins_ = spin;
        thread_ = std::thread([this, spin] {
            while (spin && !io_.stopped()) io_.poll();
            serve();
        });
    }
    bool joinable() const { return thread_.joinable(); }
    void join() { thread_.join(); }

    // As Inbox::wait_until, running the handlers meanwhile if nobody else does.
    bool wait_until(std::chrono::steady_clock::time_point deadline) {
        if (!spins_ && !inbox_.ready() && take_lead()) {
            const Leave leave{*this};
            while (!inbox_.ready() && !io_.stopped() && std::chrono::steady_clock::now() < deadline) {
                io_.run_one_until(deadline);
            }
            if (inbox_.ready()) deadline = {};
        }
        return inbox_.wait_until(deadline);
    }

    // Runs a handler: here and now if nobody leads, in its turn otherwise; one thread's handlers keep their order.
    template <class Handler>
    void run(Handler handler) {
        if (!spins_ && posted_ == 0 && take_free_lead()) {
            const Leave leave{*this};
            return handler();
        }
        ++posted_;
        asio::post(io_, [this, handler = std::move(handler)]() mutable {
            --posted_;
            handler();
        });
    }

    // Makes one wait, now or next, return with nothing.
    void wake() {
        inbox_.wake();
        asio::post(io_, [] {});  // who waits may be waiting for the sockets
    }

 private:
    static constexpr std::chrono::microseconds kGrace{500};

    struct Leave {
        Loop& loop;
        ~Leave() {
            const std::lock_guard<std::mutex> lock(loop.mutex_);
            loop.led_ = false;
            if (loop.asleep_) loop.left_.notify_one();
        }
    };

    bool take_lead() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (led_) {
            wanted_ = true;
            return false;
        }
        ++turns_;
        return led_ = true;
    }

    bool take_free_lead() {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (led_ || io_.stopped()) return false;
        return led_ = true;  // no turn: the I/O thread's time to come back does not begin anew
    }

    // The I/O thread's part.
    void serve() {
        std::unique_lock<std::mutex> lock(mutex_);
        while (!io_.stopped()) {
            const std::uint64_t turns = turns_;
            left_.wait_for(lock, kGrace);  // callers that come and go do not pay for waking us
            if (turns_ != turns) continue;
            if (led_) {
                asleep_ = true;
                left_.wait(lock, [&] { return !led_; });
                asleep_ = false;
                continue;
            }
            led_ = true;
            wanted_ = false;
            lock.unlock();
            // Handed over with a message: that wakes the caller who waits for it, and he will be back.
            while (io_.run_one() != 0 && !(wanted_ && inbox_.ready())) {
            }
            lock.lock();
            led_ = false;
        }
    }

    asio::io_context& io_;
    Inbox<T>& inbox_;
    std::mutex mutex_;  // guards led_, turns_ and asleep_
    std::condition_variable left_;
    bool led_ = false;                 // some thread runs the handlers
    bool asleep_ = false;              // the I/O thread waits until a caller leaves
    std::uint64_t turns_ = 0;          // of callers
    std::atomic<bool> wanted_{false};  // a caller waits while the I/O thread leads
    std::atomic<unsigned> posted_{0};  // handlers, and not run yet
    bool spins_ = false;
    std::thread thread_;
};

}  // namespace edgespec::net
