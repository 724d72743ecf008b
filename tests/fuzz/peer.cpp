// Fuzzes a link and a session behind it with what a hostile peer says: any bytes, in pieces whose size the first byte
// gives. Nothing crashes, memory stays within the pool, and the link can always be ended.
#include "../cpp/check.hpp"
#include "../cpp/frames.hpp"
#include "../cpp/memory_transport.hpp"
#include "net/delivery.hpp"

using namespace edgespec;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    if (bytes < 2) return 0;
    net::asio::io_context io;
    constexpr std::size_t kSlabs = 4;
    const auto pool = std::make_shared<net::SlabPool>(kSlabs);
    const auto in = std::make_shared<test::Pipe>(io, 1 + data[0] / 4), out = std::make_shared<test::Pipe>(io, 64);
    const auto link =
        std::make_shared<net::Link>(io, std::make_unique<test::MemoryTransport>(io, in, out), pool, net::LinkLimits{});
    if (data[0] % 2 == 1) link->set_max_payload(65536);  // it has been welcomed
    std::vector<net::Received> kept;
    const auto keep = [&](net::Received&& received) {
        if (kept.size() < 64) kept.push_back(std::move(received));
    };
    const auto delivery = std::make_shared<net::Delivery>(io, net::DeliveryLimits{}, keep, [](const std::string&) {});
    delivery->attach(link, 1);
    bool ended = false;
    link->start(
        keep,
        [&](const std::string&) {
            ended = true;
            delivery->detach(*link);
        },
        [&](const wire::Header& header, net::Received& received) {
            if (header.channel != 1) return false;
            delivery->take(*link, header, std::move(received));
            return true;
        });
    delivery->send(test::frame_of(1, test::verdict()));
    in->write(data + 1, bytes - 1);
    for (int i = 0; i < 4; ++i) {
        io.poll();
        io.restart();
        CHECK(pool->leased_bytes() <= pool->most_bytes());
    }
    link->end("over");
    CHECK(ended);
    delivery->stop();
    io.poll();
    kept.clear();
    return 0;
}
