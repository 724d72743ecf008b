// The kernels' loop: every task is done once before it returns, and threads that come too late touch nothing of it.
#include <memory>
#include <vector>

#include "check.hpp"
#include "sampling/parallel.hpp"

using edgespec::sampling::parallel_for;

namespace {

void every_task_is_done_once(std::size_t tasks, std::size_t threads) {
    const auto done = std::make_unique<std::vector<int>>(tasks);
    parallel_for(tasks, threads, nullptr, [&] { return [&](std::size_t task) { ++(*done)[task]; }; });
    for (const int times : *done) CHECK(times == 1);
}

}  // namespace

int main() {
    for (const std::size_t tasks : {0, 1, 2, 3, 100}) {
        for (const std::size_t threads : {1, 2, 4, 16}) {
            // So short that most threads find it over, and the memory of its tasks given back.
            for (int i = 0; i < 50; ++i) every_task_is_done_once(tasks, threads);
        }
    }
}
