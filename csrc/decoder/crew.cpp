#include "decoder/crew.hpp"

#include <chrono>
#include <system_error>

namespace edgespec::decoder {

namespace {

// A forward's loops follow each other within microseconds; who has waited longer than this gives its core away.
constexpr auto kSpin = std::chrono::microseconds(100);

// The parts of a state: below kOpen the threads at work, then whether the loop is open, then its number.
constexpr std::uint64_t kOpen = 1u << 16, kNumber = kOpen * 2;

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Spins until `done`, for at most kSpin; whether it came true.
template <class Done>
bool spin(Done done) {
    const auto until = std::chrono::steady_clock::now() + kSpin;
    do {
        for (int i = 0; i < 64; ++i) {
            if (done()) return true;
            relax();
        }
    } while (std::chrono::steady_clock::now() < until);
    return false;
}

}  // namespace

Crew::Crew(std::size_t threads) {
    for (std::size_t i = 1; i < threads; ++i) {
        try {
            others_.emplace_back([this] { stand_by(); });
        } catch (const std::system_error&) {
            break;  // no more threads to be had: those that run do the work
        }
    }
}

Crew::~Crew() {
    {
        const std::lock_guard lock(mutex_);
        over_ = true;
    }
    begun_.notify_all();
    for (std::thread& other : others_) other.join();
}

void Crew::share(const Loop& loop) {
    loop_ = loop;
    next_ = 0;
    state_ = (state_ / kNumber + 1) * kNumber + kOpen;
    if (asleep_ != 0) {
        {
            const std::lock_guard lock(mutex_);
        }
        begun_.notify_all();
    }
    work(loop);
    state_ -= kOpen;
    while (!spin([this] { return state_ % kOpen == 0; })) std::this_thread::yield();
}

void Crew::work(const Loop& loop) {
    for (std::size_t task = next_++; task < loop.tasks; task = next_++) loop.call(loop.context, task);
}

void Crew::stand_by() {
    std::uint64_t seen = 0;
    while (!over_) {
        const auto called = [this, seen] { return over_ || ((state_ & kOpen) != 0 && state_ / kNumber != seen); };
        if (!spin(called)) {
            std::unique_lock lock(mutex_);
            asleep_ += 1;
            begun_.wait(lock, called);
            asleep_ -= 1;
        }
        if (!join(seen)) continue;
        work(loop_);
        state_ -= 1;
    }
}

// Joins the open loop, if there is one and it is not number `seen`; sets `seen` to its number.
bool Crew::join(std::uint64_t& seen) {
    std::uint64_t state = state_;
    do {
        if ((state & kOpen) == 0 || state / kNumber == seen) return false;
    } while (!state_.compare_exchange_weak(state, state + 1));
    seen = state / kNumber;
    return true;
}

}  // namespace edgespec::decoder
