// A listener, resilient_connections and their threads, while connections are closed under them: each session's text is
// whole. Small, but on real sockets and threads: what the thread sanitizer looks at.
#include <atomic>
#include <thread>
#include <vector>

#include "check.hpp"
#include "frames.hpp"
#include "net/listener.hpp"
#include "net/resilient_connection.hpp"

using namespace edgespec;

namespace {

constexpr int kEdges = 4;
constexpr std::uint32_t kBlocks = 200;
constexpr std::uint32_t kDisconnectEvery = 60;  // blocks of all edges
const auto kPatience = std::chrono::seconds(60);

std::atomic<int> finished{0};

// Answers each block with a verdict of the same number, until every edge has them all.
void serve(net::Listener& listener) {
    std::vector<std::uint64_t> connections;
    std::uint32_t blocks = 0;
    while (finished < kEdges) {
        CHECK(listener.inbox().wait_until(net::Clock::now() + kPatience));
        while (auto event = listener.inbox().take()) {
            const auto* received = std::get_if<net::Received>(&event->what);
            if (received == nullptr) continue;
            if (std::holds_alternative<wire::Hello>(received->message)) {
                connections.push_back(event->number);
                listener.welcome(event->number, test::frame_of(0, test::welcome()), "device");
            } else if (const auto* block = std::get_if<wire::Block>(&received->message)) {
                listener.send(event->number, test::frame_of(1, test::verdict(block->first_node)));
                if (++blocks % kDisconnectEvery == 0) {
                    for (const std::uint64_t number : connections) listener.disconnect(number);
                    connections.clear();
                }
            }
        }
    }
}

// Sends numbered blocks, and has its verdicts once each and in order.
void edge(net::Listener& listener, std::uint8_t id) {
    net::ResilientConnectionLimits limits;
    limits.dial_at_least = std::chrono::milliseconds(1000);
    const auto resilient_connection =
        net::connect({{"127.0.0.1", listener.port(), {}}}, test::frame_of(0, test::hello()), limits);
    const auto arrival = [&] {
        auto next = resilient_connection->inbox().take();
        while (!next) {
            CHECK(resilient_connection->inbox().wait_until(net::Clock::now() + kPatience));
            next = resilient_connection->inbox().take();
        }
        return std::move(*next);
    };
    const auto message = [&] {
        while (true) {
            net::Arrival next = arrival();
            CHECK(!std::holds_alternative<net::Forgotten>(next) && !std::holds_alternative<net::GivenUp>(next));
            if (auto* received = std::get_if<net::Received>(&next)) {
                if (!std::holds_alternative<wire::Welcome>(received->message)) return received->message;
            }
        }
    };
    CHECK(std::holds_alternative<net::Received>(arrival()));  // the WELCOME
    resilient_connection->open(test::frame_of(1, test::opening(id)));
    for (std::uint32_t number = 1; number <= kBlocks; ++number) {
        resilient_connection->send(test::frame_of(1, test::block(number)));
        if (number > 8) CHECK(std::get<wire::Verdict>(message()).base_length == number - 8);
    }
    for (std::uint32_t number = kBlocks - 7; number <= kBlocks; ++number) {
        CHECK(std::get<wire::Verdict>(message()).base_length == number);
    }
    resilient_connection->send(test::frame_of(1, wire::Close{wire::FinishReason::kStop}));
    resilient_connection->end();
    ++finished;
    listener.inbox().wake();
}

}  // namespace

int main() {
    const auto made = net::listen("127.0.0.1", 0, {});
    net::Listener& listener = *made;
    std::vector<std::thread> edges;
    for (int id = 1; id <= kEdges; ++id) {
        edges.emplace_back(edge, std::ref(listener), static_cast<std::uint8_t>(id));
    }
    serve(listener);
    for (std::thread& thread : edges) thread.join();
    listener.close();
}
