// A loop over tasks on a few threads, started for the call: for work of milliseconds, where starting them is cheap and
// nothing has to survive a fork.
#pragma once

#include <atomic>
#include <cstddef>
#include <system_error>
#include <thread>
#include <vector>

namespace edgespec::sampling {

// Each thread makes itself a body and calls body(task); every task below `tasks` is done once, in any order. Neither
// may throw.
template <class MakeBody>
void parallel_for(std::size_t tasks, std::size_t threads, MakeBody make_body) {
    std::atomic<std::size_t> next{0};
    const auto work = [&] {
        auto body = make_body();
        for (std::size_t task = next++; task < tasks; task = next++) body(task);
    };
    std::vector<std::thread> others;
    for (std::size_t i = 1; i < threads && i < tasks; ++i) {
        try {
            others.emplace_back(work);
        } catch (const std::system_error&) {
            break;  // no more threads to be had: those that run do the work
        }
    }
    work();
    for (std::thread& other : others) other.join();
}

}  // namespace edgespec::sampling
