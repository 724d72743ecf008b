// A link that has no room, from its first read on or by its device's rate: it waits without keeping its thread busy,
// and notices that its peer has left.
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

// What the peer sent would take ten seconds at its device's rate.
void beyond_its_rate_when_its_peer_leaves() {
    net::asio::io_context io;
    const auto frame = test::frame_of(0, wire::Ping{1});
    const auto in = std::make_shared<test::Pipe>(io, frame.size()), out = std::make_shared<test::Pipe>(io, 4096);
    const auto link = std::make_shared<net::Link>(io, std::make_unique<test::MemoryTransport>(io, in, out),
                                                  std::make_shared<net::SlabPool>(1), net::LinkLimits{});
    link->set_share(net::DeviceShares({{100, 1}, 1u << 19}).own());
    std::string reason;
    link->start([](net::Received&&) {}, [&](const std::string& why) { reason = why; });
    for (int i = 0; i < 1000; ++i) in->write(frame.data(), frame.size());
    in->end();
    const auto deadline = net::Clock::now() + std::chrono::seconds(3);
    while (reason.empty() && net::Clock::now() < deadline) io.run_one_until(deadline);
    CHECK(reason == "the peer closed the connection");
    CHECK(in->pending().bytes);
    link->end("done");
    io.poll();
}

}  // namespace

int main() {
    no_room_at_first();
    beyond_its_rate_when_its_peer_leaves();
}
