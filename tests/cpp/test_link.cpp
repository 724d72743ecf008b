// A link that has no room from its first read on: it waits for room, and does not keep its thread busy meanwhile.
#include "check.hpp"
#include "frames.hpp"
#include "memory_transport.hpp"

using namespace edgespec;

namespace {

constexpr std::size_t kMostHandlers = 50;  // in the time waited: it asks for room again after 2, 4, 8... milliseconds
const auto kWaited = std::chrono::milliseconds(200);

// All that the pool has.
std::vector<net::Lease> used_up(net::SlabPool& pool) {
    std::vector<net::Lease> leases;
    for (const std::size_t bytes : {net::kSlabBytes, net::kPieceBytes}) {
        for (net::Lease lease = pool.lease(bytes); lease.bytes; lease = pool.lease(bytes)) leases.push_back(lease);
    }
    return leases;
}

void no_room_at_first() {
    net::asio::io_context io;
    const auto pool = std::make_shared<net::SlabPool>(1);
    auto leases = used_up(*pool);
    const auto in = std::make_shared<test::Pipe>(io, 4096), out = std::make_shared<test::Pipe>(io, 4096);
    const auto link =
        std::make_shared<net::Link>(io, std::make_unique<test::MemoryTransport>(io, in, out), pool, net::LinkLimits{});
    int came = 0;
    link->start([&](net::Received&&) { ++came; }, [](const std::string&) {});
    const auto frame = test::frame_of(0, test::hello());
    in->write(frame.data(), frame.size());
    CHECK(io.run_for(kWaited) <= kMostHandlers && came == 0);
    leases.clear();
    CHECK(io.run_for(kWaited) <= kMostHandlers && came == 1);
    link->end("done");
    io.poll();
}

}  // namespace

int main() { no_room_at_first(); }
