// The thread pool: every chunk of every loop is done exactly once, a loop is over when `run` returns, and no two
// threads share a slot.
#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "check.hpp"
#include "threads/thread_pool.hpp"

using edgespec::ThreadPool;

namespace {

void every_chunk_is_done_once(std::size_t threads, std::size_t chunks, int loops) {
    ThreadPool pool;
    for (int loop = 0; loop < loops; ++loop) {
        const auto done = std::make_unique<std::vector<int>>(chunks);  // freed while late workers wake up
        pool.run(threads, chunks, [&](std::size_t chunk, std::size_t slot) {
            CHECK(slot < threads);
            ++(*done)[chunk];
        });
        for (const int times : *done) CHECK(times == 1);
    }
}

void a_loop_sees_what_the_last_one_wrote() {
    ThreadPool pool;
    std::vector<long> left(64, 1), right(64);
    for (int loop = 0; loop < 2000; ++loop) {
        pool.run(3, 64, [&](std::size_t chunk, std::size_t) { right[chunk] = left[63 - chunk] + 1; });
        pool.run(3, 64, [&](std::size_t chunk, std::size_t) { left[chunk] = right[63 - chunk]; });
    }
    for (const long value : left) CHECK(value == 2001);
}

void threads_share_no_slot() {
    ThreadPool pool;
    for (const std::size_t threads : {2u, 5u, 3u}) {  // with more workers than places, too
        std::vector<std::atomic<int>> inside(threads);
        for (int loop = 0; loop < 500; ++loop) {
            pool.run(threads, 40, [&](std::size_t, std::size_t slot) {
                CHECK(++inside[slot] == 1);
                --inside[slot];
            });
        }
    }
}

// A worker sleeps after 100 us; the next loop wakes it, and is done whether or not it comes in time.
void a_pool_that_went_to_sleep_works() {
    ThreadPool pool;
    for (int loop = 0; loop < 5; ++loop) {
        int done[8] = {};
        pool.run(2, 8, [&](std::size_t chunk, std::size_t) { done[chunk] = 1; });
        for (const int one : done) CHECK(one == 1);
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
}

void callers_do_not_wait_for_each_other() {
    ThreadPool& pool = ThreadPool::shared();
    pool.run(2, 2, [&](std::size_t, std::size_t) {
        std::thread([&] {
            int done = 0;
            pool.run(2, 4, [&](std::size_t, std::size_t slot) { done += slot == 0 ? 1 : 0; });
            CHECK(done == 4);  // all of them on this thread
        }).join();
    });
    CHECK(&pool == &ThreadPool::shared());
}

}  // namespace

int main() {
    for (const std::size_t threads : {1u, 2u, 4u, 16u}) {
        every_chunk_is_done_once(threads, 0, 10);
        every_chunk_is_done_once(threads, 1, 50);
        every_chunk_is_done_once(threads, 7, 1000);
        every_chunk_is_done_once(threads, 300, 100);
    }
    a_loop_sees_what_the_last_one_wrote();
    threads_share_no_slot();
    a_pool_that_went_to_sleep_works();
    callers_do_not_wait_for_each_other();
    return 0;
}
