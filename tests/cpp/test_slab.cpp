// The slab pool: bounded, aligned, given back from any thread, alive as long as a lease is.
#include <thread>
#include <vector>

#include "check.hpp"
#include "net/slab.hpp"

using namespace edgespec::net;

namespace {

void a_pool_is_bounded_and_comes_back() {
    const auto pool = std::make_shared<SlabPool>(2);
    std::vector<Lease> leases;
    for (Lease lease = pool->lease(); lease.bytes; lease = pool->lease()) leases.push_back(lease);
    CHECK(leases.size() == pool->most_bytes() / kSlabBytes);
    CHECK(reinterpret_cast<std::uintptr_t>(leases[0].bytes.get()) % 64 == 0);
    leases.pop_back();
    CHECK(pool->lease().bytes);
    leases.clear();
    CHECK(pool->leased_bytes() == 0);
}

void a_large_frame_has_memory_of_its_size() {
    const auto pool = std::make_shared<SlabPool>(1);
    const Lease large = pool->lease(1 << 20);
    CHECK(large.bytes && large.size == 1 << 20);
    CHECK(pool->lease().bytes);
}

// What devices hold that take all that they can, one after the other.
void a_device_leaves_as_much_for_others_as_it_holds() {
    const auto pool = std::make_shared<SlabPool>(256);
    const auto one = std::make_shared<DeviceShare>(ShareLimits{}), other = std::make_shared<DeviceShare>(ShareLimits{});
    std::vector<Lease> leases;
    const auto take_all = [&](const std::shared_ptr<DeviceShare>& share) {
        for (Lease lease = pool->lease(kSlabBytes, share); lease.bytes; lease = pool->lease(kSlabBytes, share)) {
            leases.push_back(lease);
        }
        return share->leased / kSlabBytes;
    };
    CHECK(take_all(one) == 256 && take_all(other) == 128);
    CHECK(pool->lease(1 << 20, std::make_shared<DeviceShare>(ShareLimits{})).bytes);
    leases.clear();
    CHECK(one->leased == 0 && pool->leased_bytes() == 0);
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
    a_large_frame_has_memory_of_its_size();
    a_device_leaves_as_much_for_others_as_it_holds();
    a_lease_keeps_its_pool();
    leases_go_back_from_any_thread();
}
