// A loop over tasks on a few threads: torch's, where they are asked for, or some started for the call, so that nothing
// has to survive a fork.
//
// Where other threads hold the cores, one that is started may come to run only when all is done. Nobody waits for such
// a one: it finds the door shut and goes.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

#include "sampling/team.hpp"

namespace edgespec::sampling {

// Who works for a caller; outlives the call where a thread comes too late.
class Gate {
 public:
    // Whether the caller is still there; then it waits for `leave`.
    bool enter() {
        const std::lock_guard lock(mutex_);
        if (!shut_) ++inside_;
        return !shut_;
    }

    void leave() {
        const std::lock_guard lock(mutex_);
        if (--inside_ == 0) empty_.notify_one();
    }

    // Lets nobody in any more and waits for those inside.
    void shut() {
        std::unique_lock lock(mutex_);
        shut_ = true;
        empty_.wait(lock, [this] { return inside_ == 0; });
    }

 private:
    std::mutex mutex_;
    std::condition_variable empty_;
    std::size_t inside_ = 0;
    bool shut_ = false;
};

// On at most so many threads of a team.
template <class Work>
void on_team(const Team& team, std::size_t threads, const Work& work) {
    struct Call {
        const Work& work;
        std::atomic<std::size_t> places;
    } call{work, {threads}};
    team.run(
        [](void* data) {
            auto& asked = *static_cast<Call*>(data);
            std::size_t left = asked.places;
            while (left != 0 && !asked.places.compare_exchange_weak(left, left - 1)) {
            }
            if (left != 0) asked.work();
        },
        &call);
}

// Each thread makes itself a body and calls body(task); every task below `tasks` is done once, in any order. Neither
// may throw. team: whose threads they are; none: some are started.
template <class MakeBody>
void parallel_for(std::size_t tasks, std::size_t threads, const Team* team, MakeBody make_body) {
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        auto body = make_body();
        for (std::size_t task = next++; task < tasks; task = next++) body(task);
    };
    if (threads < 2 || tasks < 2) return work();
    if (team != nullptr) return on_team(*team, threads < tasks ? threads : tasks, work);
    const auto door = std::make_shared<Gate>();
    for (std::size_t i = 1; i < threads && i < tasks; ++i) {
        try {
            std::thread([door, &work] {
                if (!door->enter()) return;
                work();
                door->leave();
            }).detach();
        } catch (const std::system_error&) {
            break;  // no more threads to be had: those that run do the work
        }
    }
    work();
    door->shut();
}

}  // namespace edgespec::sampling
