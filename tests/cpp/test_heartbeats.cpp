// A connection that awaits a verdict keeps its heartbeats going however long no session speaks; one that
// awaits nothing falls quiet. The server is a plain socket that welcomes, says nothing more, and reads what comes.
#include <sys/socket.h>

#include <memory>

#include "check.hpp"
#include "frames.hpp"
#include "net/asio.hpp"
#include "net/resilient_connection.hpp"

using namespace edgespec;

namespace {

constexpr int kHeartbeats = 20;
const auto kPatience = std::chrono::seconds(60);

// Every silence is long enough to be quiet; a quiet link says nothing for an hour.
net::ResilientConnectionLimits limits() {
    net::ResilientConnectionLimits limits;
    limits.hedge = false;
    limits.link.ping_every = std::chrono::milliseconds(1);
    limits.link.dead_after = kPatience;
    limits.link.quiet_after = std::chrono::milliseconds(-1);
    limits.link.quiet_ping_every = std::chrono::hours(1);
    limits.link.quiet_dead_after = std::chrono::hours(2);
    return limits;
}

// A session on a server of its own.
class Pair {
 public:
    explicit Pair(bool awaiting)
        : acceptor_(io_, {net::asio::ip::address_v4::loopback(), 0}),
          socket_(io_),
          resilient_connection_(net::connect({{"127.0.0.1", acceptor_.local_endpoint().port(), {}}},
                                             test::frame_of(0, test::hello()), limits())) {
        acceptor_.accept(socket_);
        const timeval max_wait{60, 0};  // a heartbeat that never comes fails the test, and does not hang it
        CHECK(setsockopt(socket_.native_handle(), SOL_SOCKET, SO_RCVTIMEO, &max_wait, sizeof max_wait) == 0);
        net::asio::write(socket_, net::asio::buffer(test::frame_of(0, test::welcome())));
        CHECK(resilient_connection_->inbox().wait_until(net::Clock::now() + kPatience));
        resilient_connection_->await(awaiting);
        resilient_connection_->open(test::frame_of(1, test::opening()));
        heartbeats_until(wire::FrameType::kOpen);
    }

    void speak() { resilient_connection_->send(test::frame_of(1, wire::Append{3, 20, 1, {}, {}})); }

    // PINGs that come before the first frame of this type.
    int heartbeats_until(wire::FrameType type) {
        int heartbeats = 0;
        for (auto next = read(); next != type; next = read()) heartbeats += next == wire::FrameType::kPing;
        return heartbeats;
    }

    void await_heartbeats(int wanted) {
        while (wanted > 0) wanted -= read() == wire::FrameType::kPing;
    }

 private:
    wire::FrameType read() {
        std::uint8_t bytes[wire::kHeaderBytes];
        CHECK(recv(socket_.native_handle(), bytes, sizeof bytes, MSG_WAITALL) == sizeof bytes);
        const wire::Header header = wire::read_header(bytes);
        std::vector<std::uint8_t> payload((header.payload_bytes + 7) / 8 * 8);
        const auto wanted = static_cast<ssize_t>(payload.size());
        CHECK(wanted == 0 || recv(socket_.native_handle(), payload.data(), payload.size(), MSG_WAITALL) == wanted);
        return static_cast<wire::FrameType>(header.type);
    }

    net::asio::io_context io_;
    net::asio::ip::tcp::acceptor acceptor_;
    net::asio::ip::tcp::socket socket_;
    std::unique_ptr<net::ResilientConnection> resilient_connection_;
};

}  // namespace

int main() {
    Pair quiet(false), awaiting(true);
    awaiting.await_heartbeats(kHeartbeats);
    quiet.speak();
    CHECK(quiet.heartbeats_until(wire::FrameType::kAppend) <= 1);  // the one that the OPEN brought about
}
