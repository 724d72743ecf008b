// A few threads that share the tasks of one caller's loops, for loops of microseconds: between loops they spin a
// little, then sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <thread>
#include <vector>

namespace edgespec::decoder {

class Crew {
 public:
    // threads: the caller's own included; at least 1.
    explicit Crew(std::size_t threads);
    ~Crew();
    Crew(const Crew&) = delete;
    Crew& operator=(const Crew&) = delete;

    std::size_t threads() const { return others_.size() + 1; }

    // Calls body(task) for every task below `tasks`, in any order, on any of the threads; returns when all are done.
    // One caller at a time; body must not throw.
    template <class Body>
    void each(std::size_t tasks, Body&& body) {
        if (others_.empty() || tasks < 2) {
            for (std::size_t task = 0; task < tasks; ++task) body(task);
            return;
        }
        share({tasks, [](void* context, std::size_t task) { (*static_cast<Body*>(context))(task); }, &body});
    }

 private:
    struct Loop {
        std::size_t tasks = 0;
        void (*call)(void* context, std::size_t task) = nullptr;
        void* context = nullptr;
    };

    void share(const Loop& loop);
    void work(const Loop& loop);
    void stand_by();
    bool join(std::uint64_t& seen);

    std::vector<std::thread> others_;
    Loop loop_;
    // The running loop's number, whether it may still be joined, and how many others work on it: nobody waits for a
    // thread that comes too late.
    std::atomic<std::uint64_t> state_{0};
    std::atomic<std::size_t> next_{0};
    std::mutex mutex_;
    std::condition_variable begun_;
    std::atomic<std::size_t> asleep_{0};
    std::atomic<bool> over_{false};
};

}  // namespace edgespec::decoder
