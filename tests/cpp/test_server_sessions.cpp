// Sessions that are brought onto connections again and again: what that costs is bounded, and nothing is lost by it.
#include "check.hpp"
#include "frames.hpp"
#include "memory_transport.hpp"
#include "net/server_sessions.hpp"

using namespace edgespec;
using net::asio::io_context;

namespace {

constexpr std::uint32_t kVerdicts = 20;
constexpr wire::SessionId kId{1};

struct Server {
    explicit Server(net::SessionLimits limits = {}, net::RateLimit frames = {0, 1000})
        : shares({frames, 1u << 20}), sessions(io, limits, [](net::Event&&) {}, [this] { return ++last_number; }) {}

    // A session of the connection's that has sent verdicts which nobody acknowledged.
    void send_verdicts(std::uint64_t session) {
        for (std::uint32_t n = 1; n <= kVerdicts; ++n) {
            sessions.find(session)->send(test::frame_of(1, test::verdict(n)));
        }
        pass();
    }
    void pass() {
        io.poll();
        io.restart();
    }

    io_context io;
    std::shared_ptr<net::SlabPool> pool = std::make_shared<net::SlabPool>(64);
    net::DeviceShares shares;
    std::uint64_t last_number = 0;
    net::ServerSessions sessions;
};

// A welcomed connection of one device.
struct Connection {
    explicit Connection(Server& server, net::LinkLimits limits = {}) : server(server) {
        auto transport = std::make_unique<test::MemoryTransport>(server.io, in, out);
        peer.link = std::make_shared<net::Link>(server.io, std::move(transport), server.pool, limits);
        peer.share = server.shares.of("device");
        peer.link->set_share(peer.share);
        peer.identity = "device";
        peer.link->start([](net::Received&&) {},
                         [this](const std::string& reason) { this->server.sessions.detach(peer, reason); });
    }
    ~Connection() {
        peer.link->end("done");
        server.pass();
    }

    void say(const net::Frame& frame) {
        const wire::Header header = wire::read_header(frame.data());
        net::Received received;
        received.channel = header.channel;
        received.message = wire::decode_message(header, frame.data() + wire::kHeaderBytes);
        server.sessions.deliver(peer, header, std::move(received));
    }
    void open(std::uint16_t channel, std::uint8_t id = 1) {
        say(test::numbered(test::frame_of(channel, test::opening(id)), 1));
    }
    void resume(std::uint16_t channel) { say(test::frame_of(channel, wire::Resume{kId, 0})); }

    // The frames that came, PINGs apart.
    std::vector<wire::Header> heard() {
        std::vector<std::uint8_t> bytes(1 << 20);
        std::size_t filled = 0;
        server.pass();
        if (!out->pending().bytes) return {};
        out->read(bytes.data(), bytes.size(), [&](net::ErrorStatus, std::size_t count) { filled = count; });
        server.pass();
        std::vector<wire::Header> found;
        for (std::size_t at = 0; at < filled;) {
            const wire::Parsed parsed = wire::next_frame(bytes.data() + at, filled - at, wire::kMaxPayload);
            if (parsed.header.type != static_cast<std::uint8_t>(wire::FrameType::kPing)) found.push_back(parsed.header);
            at += parsed.frame_bytes;
        }
        return found;
    }
    std::size_t count(wire::FrameType type) {
        const auto headers = heard();
        return static_cast<std::size_t>(std::count_if(headers.begin(), headers.end(), [&](const wire::Header& one) {
            return one.type == static_cast<std::uint8_t>(type);
        }));
    }

    Server& server;
    std::shared_ptr<test::Pipe> in = std::make_shared<test::Pipe>(server.io, 1 << 20),
                                out = std::make_shared<test::Pipe>(server.io, 1 << 20);
    net::Peer peer;
};

void an_open_said_again_takes_the_rate_of_resumes() {
    net::SessionLimits limits;
    limits.opens = {0, 1};
    limits.resumes = {0, 2};
    Server server(limits);
    Connection first(server), second(server), third(server), fourth(server), fifth(server);
    first.open(1);
    server.send_verdicts(1);
    second.open(1);
    third.resume(1);
    CHECK(second.count(wire::FrameType::kVerdict) == kVerdicts && third.count(wire::FrameType::kVerdict) == kVerdicts);
    fourth.open(1);
    fifth.resume(1);
    for (Connection* refused : {&fourth, &fifth}) {
        const auto heard = refused->heard();
        CHECK(heard.size() == 1 && heard[0].type == static_cast<std::uint8_t>(wire::FrameType::kError));
    }
}

void an_open_counts_by_what_its_sections_hold() {
    net::SessionLimits limits;
    limits.opens = {0, 20};
    const std::string section(1 << 16, ' ');
    for (const bool is_picture : {false, true}) {
        Server server(limits);
        Connection connection(server);
        for (std::uint8_t n = 1; n <= 3; ++n) {
            auto open = test::opening(n);
            (is_picture ? open.pictures : open.sampling) = wire::Bytes(section);
            connection.say(test::numbered(test::frame_of(n, open), 1));
        }
        CHECK(connection.count(wire::FrameType::kError) == (is_picture ? 0 : 1));
    }
}

void a_session_has_one_channel_of_a_connection() {
    Server server;
    Connection connection(server);
    connection.open(1);
    server.send_verdicts(1);
    CHECK(connection.count(wire::FrameType::kVerdict) == kVerdicts);
    for (std::uint16_t channel = 2; channel < 100; channel += 2) {
        connection.open(channel);
        connection.resume(static_cast<std::uint16_t>(channel + 1));
    }
    CHECK(connection.heard().empty() && server.sessions.traffic().resent == 0);
}

void what_is_sent_again_counts_in_the_devices_frames() {
    Server server({}, {0, kVerdicts - 1});
    Connection first(server), second(server);
    first.open(1);
    server.send_verdicts(1);
    CHECK(first.peer.share->may_read(net::Clock::now()));
    second.resume(1);
    CHECK(!first.peer.share->may_read(net::Clock::now()));
}

void a_link_that_is_full_gets_no_more_and_another_gets_all() {
    Server server;
    net::LinkLimits narrow;
    narrow.queued_bytes = 3 * test::frame_of(1, test::verdict()).size();
    Connection first(server), second(server, narrow), third(server);
    first.open(1);
    server.send_verdicts(1);
    first.peer.link->end("gone");
    second.resume(1);
    CHECK(!second.peer.link->sends() && server.sessions.traffic().resent <= 4);
    server.pass();  // the full link ends
    third.resume(1);
    std::vector<std::uint32_t> numbers;
    for (const wire::Header& header : third.heard()) {
        if (header.type == static_cast<std::uint8_t>(wire::FrameType::kVerdict)) numbers.push_back(header.sequence);
    }
    CHECK(numbers.size() == kVerdicts && numbers.front() == 1 && numbers.back() == kVerdicts);
}

void a_resume_needs_a_channel_as_an_open_does() {
    Server server;
    Connection other(server), full(server);
    other.open(1);
    for (std::uint16_t n = 1; n <= 256; ++n) {
        auto open = test::opening(2);
        open.session_id[1] = static_cast<std::uint8_t>(n);
        full.say(test::numbered(test::frame_of(n, open), 1));
    }
    CHECK(throws<wire::BadFrame>([&] { full.resume(300); }) && throws<wire::BadFrame>([&] { full.open(300); }));
}

}  // namespace

int main() {
    an_open_said_again_takes_the_rate_of_resumes();
    an_open_counts_by_what_its_sections_hold();
    a_session_has_one_channel_of_a_connection();
    what_is_sent_again_counts_in_the_devices_frames();
    a_link_that_is_full_gets_no_more_and_another_gets_all();
    a_resume_needs_a_channel_as_an_open_does();
}
