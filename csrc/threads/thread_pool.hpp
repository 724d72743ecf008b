// Threads that share the chunks of one caller's loop, for loops of microseconds: between loops they spin briefly, then
// sleep.
//
// The caller works too, and chunks are taken one at a time. A worker that the system has descheduled delays at most the
// chunk it holds; one that wakes up too late finds the loop closed, and nobody waits for it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace edgespec {

class ThreadPool {
 public:
    ThreadPool() = default;
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    // The pool of this process, never destroyed; a child process after fork() gets its own.
    static ThreadPool& shared();

    // Calls body(chunk, slot) once for every chunk below `chunks`, in any order, on the caller's thread and at most
    // `threads - 1` workers; returns when all are done. `slot` < threads is the caller's index into scratch memory that
    // no two threads use at a time. The body must not throw, and must not call `run` of the same pool. Where the pool
    // is busy with another caller's loop, the caller does all the work itself.
    template <class Body>
    void run(std::size_t threads, std::size_t chunks, Body&& body) {
        if (threads < 2 || chunks < 2 || !callers_.try_lock()) {
            for (std::size_t chunk = 0; chunk < chunks; ++chunk) body(chunk, std::size_t{0});
            return;
        }
        const std::lock_guard lock(callers_, std::adopt_lock);
        const auto call = [](void* context, std::size_t chunk, std::size_t slot) {
            (*static_cast<std::remove_reference_t<Body>*>(context))(chunk, slot);
        };
        share({threads < chunks ? threads : chunks, chunks, call, &body});
    }

 private:
    struct Loop {
        std::size_t threads = 0, chunks = 0;
        void (*call)(void* context, std::size_t chunk, std::size_t slot) = nullptr;
        void* context = nullptr;
    };

    void share(const Loop& loop);
    void grow(std::size_t workers);
    void work(std::size_t slot);
    void serve();
    bool join(std::uint32_t& seen, std::size_t& slot);

    std::mutex callers_;  // held by the caller whose loop runs
    std::vector<std::thread> workers_;
    Loop loop_;
    std::atomic<std::uint64_t> state_{0};  // see thread_pool.cpp
    std::atomic<std::size_t> next_{0};     // the next chunk to take
    std::mutex sleep_mutex_;
    std::condition_variable wake_;
    std::atomic<std::size_t> asleep_{0};
    std::atomic<bool> ending_{false};
};

}  // namespace edgespec
