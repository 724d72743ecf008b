// The slab pool: bounded, aligned, given back from any thread, alive as long as a lease is.
#include <thread>
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
    first = {};
    CHECK(pool->lease().bytes);
    second = {};
    CHECK(pool->leased_bytes() == 0);
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
    large_frames_have_a_bound_of_their_own();
    a_lease_keeps_its_pool();
    leases_go_back_from_any_thread();
}
