// Two ends of one session, joined by paths in memory that a programme of bytes makes, stalls and cuts while both send.
// What is delivered is checked as it comes: each frame once and in order; at the end, all of them.
#pragma once

#include "check.hpp"
#include "frames.hpp"
#include "memory_transport.hpp"
#include "net/delivery.hpp"

namespace edgespec::test {

class DeliveryRig {
 public:
    DeliveryRig() : ends_{End(*this, true), End(*this, false)} {}
    ~DeliveryRig() {
        for (Path& path : paths_) cut(path);
        for (End& end : ends_) end.delivery->stop();
        settle();
    }

    // Each byte is an instruction. Ends with a good path, over which everything must have come.
    void run(const std::uint8_t* program, std::size_t bytes) {
        for (std::size_t i = 0; i < bytes; ++i) step(program[i]);
        for (Path& path : paths_) cut(path);
        settle();
        paths_.clear();
        join(4096, false);
        settle();
        for (const End& end : ends_) {
            CHECK(end.delivery->received() == end.delivered);
            CHECK(end.delivered == ends_[&end == &ends_[0] ? 1 : 0].sent);
        }
    }

 private:
    static constexpr std::uint32_t kMost = 200;  // each way: what is early stays within its bound

    struct End {
        End(DeliveryRig& rig, bool edge) : edge(edge) {
            net::DeliveryLimits limits;
            limits.acknowledge_within = limits.hedge_slack = std::chrono::milliseconds(0);
            limits.hedge_rtts = 0;  // everything that is not acknowledged at once is late
            limits.hedge_share = 1;
            delivery = std::make_shared<net::Delivery>(
                rig.io_, limits, [this](net::Received&& received) { take(received.message); },
                [](const std::string&) { CHECK(!"a ledger is full"); });
        }

        void take(const net::Message& message) {
            const std::uint32_t number =
                edge ? std::get<wire::Verdict>(message).base_length : std::get<wire::Block>(message).first_node;
            CHECK(number == ++delivered);
        }

        const bool edge;
        std::uint32_t sent = 0, delivered = 0;
        std::shared_ptr<net::Delivery> delivery;
    };

    struct Path {
        std::shared_ptr<net::Link> links[2];
        std::shared_ptr<Pipe> pipes[2];
    };

    void step(std::uint8_t instruction) {
        const std::uint8_t operand = instruction >> 3;
        switch (instruction & 7) {
            case 0:
            case 1:
                return send(ends_[instruction & 1], 1 + operand % 4);
            case 2:
                return join(1 + 37 * operand, operand % 2 == 1);
            case 3:
                if (!paths_.empty()) cut(paths_[operand % paths_.size()]);
                return;
            case 4:
                if (!paths_.empty()) paths_[operand % paths_.size()].pipes[operand / 16]->stall(true);
                return;
            case 5:
                if (!paths_.empty()) paths_[operand % paths_.size()].pipes[operand / 16]->stall(false);
                return;
            case 6:
                for (unsigned i = 0; i <= operand; ++i) io_.poll_one();
                io_.restart();
                return;
            default:
                return settle();
        }
    }

    void send(End& end, std::uint32_t count) {
        for (; count > 0 && end.sent < kMost; --count) {
            ++end.sent;
            end.delivery->send(end.edge ? frame_of(1, block(end.sent)) : frame_of(1, verdict(end.sent)));
        }
    }

    // As ResilientConnection and Listener do it: each end says what it has, and the rest is sent again.
    void join(std::size_t piece, bool spare) {
        if (paths_.size() >= 16) return;
        Path path;
        for (auto& pipe : path.pipes) pipe = std::make_shared<Pipe>(io_, piece);
        for (int i = 0; i < 2; ++i) {
            auto transport = std::make_unique<MemoryTransport>(io_, path.pipes[i], path.pipes[1 - i]);
            path.links[i] = std::make_shared<net::Link>(io_, std::move(transport), pool_, net::LinkLimits{});
            path.links[i]->set_max_payload(65536);
            start(ends_[i], path.links[i]);
        }
        for (int i = 0; i < 2; ++i) ends_[i].delivery->attach(path.links[i], 1, spare);
        for (int i = 0; i < 2; ++i) ends_[i].delivery->replay(*path.links[i], ends_[1 - i].delivery->received());
        paths_.push_back(std::move(path));
    }

    void start(End& end, const std::shared_ptr<net::Link>& link) {
        const std::weak_ptr<net::Link> weak = link;
        const auto delivery = end.delivery;
        link->start([](net::Received&&) {},
                    [delivery, weak](const std::string& reason) {
                        CHECK(reason.find("protocol") == std::string::npos);
                        if (const auto link = weak.lock()) delivery->detach(*link);
                    },
                    [delivery, weak](const wire::Header& header, net::Received& received) {
                        delivery->take(*weak.lock(), header, std::move(received));
                        return true;
                    });
    }

    static void cut(Path& path) {
        for (const auto& link : path.links) link->end("cut");
    }

    void settle() {
        io_.poll();
        io_.restart();
    }

    net::asio::io_context io_;
    std::shared_ptr<net::SlabPool> pool_ = std::make_shared<net::SlabPool>(1024);
    End ends_[2];
    std::vector<Path> paths_;
};

}  // namespace edgespec::test
