#include "threads/thread_pool.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <system_error>

namespace edgespec {

namespace {

// Loops of one forward follow each other within microseconds; a worker that has waited longer gives its core away.
constexpr auto kSpin = std::chrono::microseconds(100);

// The fields of state_, from the lowest bit on: workers at work (16 bits), places for more (15), whether the loop may
// be joined (1), and its number (32).
constexpr std::uint64_t kWorking = 1, kPlace = 1u << 16, kOpen = 1u << 31, kNumber = std::uint64_t{1} << 32;
constexpr std::size_t kMostWorkers = 0x7fff;

std::size_t working(std::uint64_t state) { return state & 0xffffu; }
std::size_t places(std::uint64_t state) { return (state >> 16) & kMostWorkers; }
std::uint32_t number(std::uint64_t state) { return static_cast<std::uint32_t>(state >> 32); }

void relax() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

// Spins until `done()`, for at most kSpin; whether it came true.
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

ThreadPool& ThreadPool::shared() {
    static std::mutex mutex;
    static ThreadPool* pool = nullptr;
    static ::pid_t owner = 0;
    const std::lock_guard lock(mutex);
    if (owner != ::getpid()) {  // fork() copies no threads: the parent's pool is of no use to its child
        pool = new ThreadPool;
        owner = ::getpid();
    }
    return *pool;
}

ThreadPool::~ThreadPool() {
    {
        const std::lock_guard lock(sleep_mutex_);
        ending_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::share(const Loop& loop) {
    const std::size_t workers = std::min(loop.threads - 1, kMostWorkers);
    grow(workers);
    loop_ = loop;
    next_ = 0;
    state_ = (state_ / kNumber + 1) * kNumber + kOpen + workers * kPlace;
    if (asleep_ != 0) {
        {
            const std::lock_guard lock(sleep_mutex_);
        }
        wake_.notify_all();
    }
    work(0);
    state_ -= kOpen;
    while (!spin([this] { return working(state_) == 0; })) std::this_thread::yield();
}

void ThreadPool::grow(std::size_t workers) {
    while (workers_.size() < workers) {
        try {
            workers_.emplace_back([this] { serve(); });
        } catch (const std::system_error&) {
            return;  // no more threads can be had: those that run do the work
        }
    }
}

void ThreadPool::work(std::size_t slot) {
    for (std::size_t chunk = next_++; chunk < loop_.chunks; chunk = next_++) loop_.call(loop_.context, chunk, slot);
}

// A worker's life.
void ThreadPool::serve() {
    std::uint32_t seen = 0;
    std::size_t slot = 0;
    while (!ending_) {
        const auto called = [this, seen] {
            const std::uint64_t state = state_;
            return ending_ || ((state & kOpen) != 0 && number(state) != seen);
        };
        if (!spin(called)) {
            std::unique_lock lock(sleep_mutex_);
            asleep_ += 1;
            wake_.wait(lock, called);
            asleep_ -= 1;
        }
        if (!join(seen, slot)) continue;
        work(slot);
        state_ -= kWorking;
    }
}

// Joins the open loop and takes a slot, unless it is number `seen` or all its places are taken; sets `seen` to its
// number.
bool ThreadPool::join(std::uint32_t& seen, std::size_t& slot) {
    std::uint64_t state = state_;
    do {
        if ((state & kOpen) == 0 || number(state) == seen) return false;
        slot = places(state);
    } while (slot != 0 && !state_.compare_exchange_weak(state, state + kWorking - kPlace));
    seen = number(state);
    return slot != 0;
}

}  // namespace edgespec
