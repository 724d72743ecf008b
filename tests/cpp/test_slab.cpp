// The slab pool: bounded, aligned, given back from any thread, alive as long as a lease is.
#include <algorithm>
#include <thread>
#include <utility>
#include <vector>

#include "check.hpp"
#include "net/slab.hpp"

using namespace edgespec::net;

namespace {

void a_pool_is_bounded_and_comes_back() {
    const auto pool = std::make_shared<SlabPool>(2);
    Lease first = pool->lease(), second = pool->lease();
    CHECK(first.bytes && second.bytes && !pool->lease().bytes);
    CHECK(reinterpret_cast<std::uintptr_t>(first.bytes.get()) % 64 == 0);
    const auto* where = first.bytes.get();
    first = {};
    CHECK(pool->lease().bytes.get() == where);
    second = {};
    CHECK(pool->leased() == 0 && pool->leased_bytes() == 0);
}

std::vector<std::pair<void*, std::size_t>> pinned_now;

int pin(void* address, std::size_t bytes, unsigned) {
    pinned_now.emplace_back(address, bytes);
    return 0;
}

int refuse(void*, std::size_t, unsigned) { return 2; }

int unpin(void* address) {
    const auto last =
        std::remove_if(pinned_now.begin(), pinned_now.end(), [&](const auto& one) { return one.first == address; });
    CHECK(last != pinned_now.end());
    pinned_now.erase(last, pinned_now.end());
    return 0;
}

void every_slab_is_pinned_once_and_as_long_as_it_lives() {
    auto pool = std::make_shared<SlabPool>(2, Pinning{&pin, &unpin});
    Lease first = pool->lease();
    CHECK(pinned_now.size() == 1 && pinned_now[0].first == first.bytes.get() && pinned_now[0].second == kSlabBytes);
    const Lease second = pool->lease(), piece = pool->lease_piece(), large = pool->lease(1 << 15);
    first = {};
    first = pool->lease();  // the same slab again
    CHECK(pool->pinned() == 2 && pinned_now.size() == 2);
    pool.reset();
    CHECK(pinned_now.size() == 2);  // a lease is out
}

void a_slab_that_cannot_be_pinned_is_a_slab_still() {
    CHECK(pinned_now.empty());
    const auto pool = std::make_shared<SlabPool>(1, Pinning{&refuse, &unpin});
    CHECK(pool->lease().bytes && pool->pinned() == 0);
}

void large_frames_have_a_bound_of_their_own() {
    const auto pool = std::make_shared<SlabPool>(1);
    const Lease large = pool->lease(1 << 20);
    CHECK(large.bytes && large.size == 1 << 20);
    CHECK(!pool->lease(1 << 20).bytes);
    CHECK(pool->lease().bytes);
}

void a_lease_keeps_its_pool() {
    auto pool = std::make_shared<SlabPool>(1);
    Lease lease = pool->lease();
    const std::weak_ptr<SlabPool> alive = pool;
    pool.reset();
    CHECK(!alive.expired());
    lease.bytes.get()[0] = 1;
    lease = {};
    CHECK(alive.expired());
}

void leases_go_back_from_any_thread() {
    const auto pool = std::make_shared<SlabPool>(64);
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t) {
        threads.emplace_back([pool] {
            for (int i = 0; i < 2000; ++i) {
                Lease lease = pool->lease(i % 7 == 0 ? kSlabBytes + 1 : kSlabBytes);
                if (lease.bytes) lease.bytes.get()[i % kSlabBytes] = static_cast<std::uint8_t>(i);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    CHECK(pool->leased_bytes() == 0);
}

}  // namespace

int main() {
    a_pool_is_bounded_and_comes_back();
    every_slab_is_pinned_once_and_as_long_as_it_lives();
    a_slab_that_cannot_be_pinned_is_a_slab_still();
    large_frames_have_a_bound_of_their_own();
    a_lease_keeps_its_pool();
    leases_go_back_from_any_thread();
}
