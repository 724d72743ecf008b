// Who runs an I/O context: a thread of its own, or the caller's thread for as long as it waits for the inbox anyway.
//
// A message that the I/O thread hands over costs two thread switches at each end. So a caller that waits runs the
// handlers itself, and the I/O thread takes them back when no caller has come again for `kGrace`: whatever has to
// happen in time never depends on the caller. One thread at a time runs handlers: the one that set `led_` under the
// mutex. With `spin` whoever runs them polls and never sleeps, which takes a core.
#pragma once

#include <atomic>
#include <mutex>
#include <thread>

#include "net/alarm.hpp"
#include "net/asio.hpp"
#include "net/inbox.hpp"

namespace edgespec::net {

template <class Box>
class Loop {
 public:
    Loop(asio::io_context& io, Box& inbox) : io_(io), inbox_(inbox) {}

    // Begins the I/O thread.
    void start(bool spin = false) {
        spins_ = spin;
        thread_ = std::thread([this] { serve(); });
    }
    bool joinable() const { return thread_.joinable(); }
    void join() { thread_.join(); }

    // As Inbox::wait_until, running the handlers meanwhile if nobody else does.
    bool wait_until(std::chrono::steady_clock::time_point deadline) {
        while (!inbox_.ready()) {
            if (take_lead(true)) {
                const Leave leave{*this, true};
                do {
                    spins_ ? poll() : io_.run_one_until(deadline);
                } while (!inbox_.ready() && !io_.stopped() && std::chrono::steady_clock::now() < deadline);
                break;
            }
            if (!spins_ || std::chrono::steady_clock::now() >= deadline) break;
            std::this_thread::yield();  // the I/O thread is about to hand over
        }
        if (inbox_.ready()) deadline = {};
        return inbox_.wait_until(deadline);
    }

    // Runs a handler: here and now if nobody leads, in its turn otherwise; one thread's handlers keep their order.
    template <class Handler>
    void run(Handler handler) {
        if (posted_ == 0 && !io_.stopped() && take_lead(false)) {
            const Leave leave{*this, false};
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
    static constexpr int kPolls = 32;  // between two looks at anything else

    // Ends a lead. `waited`: the caller will be back, and the I/O thread's time begins anew.
    struct Leave {
        Loop& loop;
        bool waited;
        ~Leave() {
            const std::lock_guard<std::mutex> lock(loop.mutex_);
            loop.led_ = false;
            loop.alarm_.ring_within(kGrace, waited);
        }
    };

    bool take_lead(bool waits) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (led_) {
            if (waits) wanted_ = true;
            return false;
        }
        wanted_ = false;
        return led_ = true;
    }

    // Until a handler has run, or for some microseconds.
    std::size_t poll() {
        std::size_t ran = 0;
        for (int i = 0; i < kPolls && ran == 0; ++i) ran = io_.poll_one();
        return ran;
    }

    // The I/O thread's part.
    void serve() {
        while (!io_.stopped()) {
            if (take_lead(false)) {
                const Leave leave{*this, true};
                // Handed over with a message: that wakes the caller who waits for it, and he will be back.
                do {
                    spins_ ? poll() : io_.run_one();
                } while (!io_.stopped() && !(wanted_ && (spins_ || inbox_.ready())));
            }
            if (!io_.stopped()) alarm_.wait();
        }
    }

    asio::io_context& io_;
    Box& inbox_;
    Alarm alarm_;                      // for the I/O thread; rings within kGrace whenever nobody leads
    std::mutex mutex_;                 // guards led_ and alarm_'s time
    bool led_ = false;                 // some thread runs the handlers
    std::atomic<bool> wanted_{false};  // somebody waits while another leads
    std::atomic<unsigned> posted_{0};  // handlers, and not run yet
    bool spins_ = false;
    std::thread thread_;
};

}  // namespace edgespec::net
