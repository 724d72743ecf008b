// The decoder's crew: every task of every loop is done exactly once, and a loop is over when `each` returns.
#include <chrono>
#include <vector>

#include "check.hpp"
#include "decoder/crew.hpp"

using edgespec::decoder::Crew;

namespace {

void every_task_is_done_once(std::size_t threads, std::size_t tasks, int loops) {
    Crew crew(threads);
    std::vector<int> done(tasks);
    for (int loop = 1; loop <= loops; ++loop) {
        crew.each(tasks, [&](std::size_t task) { ++done[task]; });
        for (const int times : done) CHECK(times == loop);
    }
}

void a_loop_sees_what_the_last_one_wrote() {
    Crew crew(3);
    std::vector<long> left(64, 1), right(64);
    for (int loop = 0; loop < 2000; ++loop) {
        crew.each(64, [&](std::size_t task) { right[task] = left[63 - task] + 1; });
        crew.each(64, [&](std::size_t task) { left[task] = right[63 - task]; });
    }
    for (const long value : left) CHECK(value == 2001);
}

void a_crew_that_went_to_sleep_wakes() {
    Crew crew(2);
    for (int loop = 0; loop < 5; ++loop) {
        int done[8] = {};
        crew.each(8, [&](std::size_t task) { done[task] = 1; });
        for (const int one : done) CHECK(one == 1);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

}  // namespace

int main() {
    for (const std::size_t threads : {1u, 2u, 4u}) {
        every_task_is_done_once(threads, 1, 50);
        every_task_is_done_once(threads, 7, 2000);
        every_task_is_done_once(threads, 300, 100);
    }
    a_loop_sees_what_the_last_one_wrote();
    a_crew_that_went_to_sleep_wakes();
    return 0;
}
