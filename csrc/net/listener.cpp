#include "net/listener.hpp"

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "net/loop.hpp"
#include "net/network.hpp"
#include "net/server_sessions.hpp"

namespace edgespec::net {

namespace {

constexpr std::chrono::milliseconds kAcceptPause{50};
constexpr std::uint64_t kStrangersLane = 0;

std::uint64_t lane_of(const Peer& peer) { return peer.identity ? peer.share->lane : kStrangersLane; }

asio::ip::tcp::endpoint endpoint_of(asio::io_context& io, const std::string& host, std::uint16_t port) {
    return *asio::ip::tcp::resolver(io).resolve(host, std::to_string(port), asio::ip::tcp::resolver::passive).begin();
}

class SocketListener final : public Listener {
 public:
    SocketListener(const std::string& host, std::uint16_t port, ListenerLimits limits, std::shared_ptr<Tls> tls);
    ~SocketListener() override { close(); }

    std::uint16_t port() const override { return port_; }
    const Traffic& traffic() const override { return sessions_.traffic(); }
    const SlabPool& pool() const override { return *pool_; }
    EventBox& inbox() override { return inbox_; }
    bool wait_until(Clock::time_point deadline) override { return loop_.wait_until(deadline); }
    void wake() override { loop_.wake(); }
    bool welcome(std::uint64_t connection, Frame frame, std::string identity) override;
    bool send(std::uint64_t number, Frame frame) override;
    std::optional<std::string> identity(std::uint64_t session) const override { return sessions_.identity(session); }
    std::optional<double> rtt_ms(std::uint64_t session) const override;
    void set_tls(std::shared_ptr<Tls> tls) override;
    void disconnect(std::uint64_t number) override;
    void close() override;

 private:
    void accept();
    void accept_later();
    bool make_room(const std::string& network);
    void admit(asio::ip::tcp::socket socket, const asio::ip::address& address);
    void part_with(std::optional<std::uint64_t> stranger);
    void greet(std::uint64_t number, bool crowded);
    void deliver(std::uint64_t number, Received&& received);
    void ended(std::uint64_t number, const std::string& reason);
    std::shared_ptr<Link> find(std::uint64_t number) const;

    asio::io_context io_;
    asio::executor_work_guard<asio::io_context::executor_type> work_;
    asio::ip::tcp::acceptor acceptor_;
    asio::steady_timer pause_;
    const ListenerLimits limits_;
    std::shared_ptr<Tls> tls_;
    std::uint16_t port_ = 0;
    std::shared_ptr<SlabPool> pool_;
    DeviceShares shares_;
    Strangers strangers_;
    EventBox inbox_;
    mutable std::mutex mutex_;  // guards peers_, which the caller's thread reads
    std::unordered_map<std::uint64_t, Peer> peers_;
    std::uint64_t last_number_ = 0;
    ServerSessions sessions_;
    Loop<EventBox> loop_{io_, inbox_};
};

SocketListener::SocketListener(const std::string& host, std::uint16_t port, ListenerLimits limits,
                               std::shared_ptr<Tls> tls)
    : io_(1),
      work_(asio::make_work_guard(io_)),
      acceptor_(io_),
      pause_(io_),
      limits_(limits),
      tls_(std::move(tls)),
      pool_(std::make_shared<SlabPool>(limits.slabs)),
      shares_(limits.device),
      strangers_(limits.strangers),
      sessions_(
          io_, limits.sessions, [this](Event&& event) { inbox_.push(std::move(event)); },
          [this] { return ++last_number_; }) {
    const auto endpoint = endpoint_of(io_, host, port);
    acceptor_.open(endpoint.protocol());
    acceptor_.set_option(asio::ip::tcp::acceptor::reuse_address(true));
    acceptor_.bind(endpoint);
    acceptor_.listen(limits.backlog);
    port_ = acceptor_.local_endpoint().port();
    loop_.run([this] { accept(); });
    loop_.start(limits_.busy_spin);
}

void SocketListener::accept() {
    acceptor_.async_accept([this](ErrorStatus error, asio::ip::tcp::socket socket) {
        if (!acceptor_.is_open()) return;
        if (error) return accept_later();
        ErrorStatus gone;
        const auto address = socket.remote_endpoint(gone).address();
        if (!gone && make_room(network_of(address))) admit(std::move(socket), address);
        accept();
    });
}

// Whether one more connection from there may begin. One that has not said who it is gives way where there is no room.
bool SocketListener::make_room(const std::string& network) {
    if (!strangers_.may_arrive(network, Clock::now())) return false;
    if (peers_.size() >= limits_.connections) part_with(strangers_.give_way());
    return peers_.size() < limits_.connections;
}

void SocketListener::part_with(std::optional<std::uint64_t> stranger) {
    if (!stranger) return;
    const auto link = peers_.at(*stranger).link;
    link->end("others wait to say who they are");
    const std::lock_guard<std::mutex> lock(mutex_);
    peers_.erase(*stranger);
}

// Accepting fails at once and again while there is no file descriptor left.
void SocketListener::accept_later() {
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([this](ErrorStatus) {
        if (acceptor_.is_open()) accept();
    });
}

void SocketListener::admit(asio::ip::tcp::socket socket, const asio::ip::address& address) {
    const std::string network = network_of(address);
    const std::uint64_t number = ++last_number_;
    auto transport = tls_ ? tls_->transport(std::move(socket), {}, 0) : tcp_transport(std::move(socket));
    auto link = std::make_shared<Link>(io_, std::move(transport), pool_, limits_.link);
    const auto share = shares_.own();
    link->set_share(share);
    part_with(strangers_.add(network, number));
    auto handshake = std::make_unique<asio::steady_timer>(io_, limits_.hello_within);
    handshake->async_wait([link](ErrorStatus error) {
        if (!error) link->end("the peer did not say HELLO in time");
    });
    const auto crowd = static_cast<std::size_t>(
        std::count_if(peers_.begin(), peers_.end(), [&](const auto& peer) { return peer.second.network == network; }));
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        peers_.emplace(number, Peer{link, std::move(handshake), unmapped(address).to_string(), network, {}, share, {}});
    }
    const bool crowded = crowd >= limits_.connections_of_address;
    link->begin([this, number, crowded](const std::string& reason) {
        if (reason.empty()) return greet(number, crowded);
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto peer = peers_.find(number);
        if (peer == peers_.end()) return;
        strangers_.remove(peer->second.network, number);
        peers_.erase(peer);
    });
}

// Bytes may pass: from here on the caller hears of this connection.
void SocketListener::greet(std::uint64_t number, bool crowded) {
    const Peer& peer = peers_.at(number);
    const auto link = peer.link;
    inbox_.push({number, Connected{peer.address, link->peer_name()}});
    link->start([this, number](Received&& received) { deliver(number, std::move(received)); },
                [this, number](const std::string& reason) { ended(number, reason); },
                [this, number](const wire::Header& header, Received& received) {
                    Peer& peer = peers_.at(number);
                    if (peer.identity) sessions_.deliver(peer, header, std::move(received));
                    return peer.identity.has_value();  // before it is welcomed a connection has no sessions
                });
    if (!crowded) return;
    link->send(limit_reached(0, "too many connections come from this address"));
    link->finish("too many connections come from this address");
}

void SocketListener::deliver(std::uint64_t number, Received&& received) {
    const Peer& peer = peers_.at(number);
    if (std::holds_alternative<wire::Hello>(received.message)) {
        peer.handshake->cancel();
        strangers_.remove(peer.network, number);
    }
    inbox_.push({number, std::move(received), lane_of(peer)});
}

void SocketListener::ended(std::uint64_t number, const std::string& reason) {
    Peer peer;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        peer = std::move(peers_.at(number));
        peers_.erase(number);
    }
    strangers_.remove(peer.network, number);
    sessions_.detach(peer, reason);
    inbox_.push({number, Disconnected{reason}, lane_of(peer)});
}

bool SocketListener::welcome(std::uint64_t connection, Frame frame, std::string identity) {
    if (!find(connection)) return false;
    const auto header = wire::read_header(frame.data());
    if (header.type != static_cast<std::uint8_t>(wire::FrameType::kWelcome)) {
        throw std::invalid_argument("a connection is welcomed with a WELCOME");
    }
    const auto agreed =
        agreed_payload(wire::decode<wire::Welcome>(frame.data() + wire::kHeaderBytes, header.payload_bytes));
    loop_.run([this, connection, agreed, frame = std::move(frame), identity = std::move(identity)]() mutable {
        const auto peer = peers_.find(connection);
        if (peer == peers_.end()) return;
        if (!identity.empty()) {  // otherwise it keeps its own share
            peer->second.share = shares_.of(identity);
            peer->second.link->set_share(peer->second.share);
        }
        peer->second.identity = std::move(identity);
        peer->second.link->set_max_payload(agreed);
        peer->second.link->send(std::move(frame));
    });
    return true;
}

bool SocketListener::send(std::uint64_t number, Frame frame) {
    if (auto link = find(number)) {
        loop_.run([link = std::move(link), frame = std::move(frame)]() mutable { link->send(std::move(frame)); });
        return true;
    }
    auto delivery = sessions_.find(number);
    if (!delivery) return false;
    loop_.run(
        [delivery = std::move(delivery), frame = std::move(frame)]() mutable { delivery->send(std::move(frame)); });
    return true;
}

std::optional<double> SocketListener::rtt_ms(std::uint64_t session) const {
    const auto delivery = sessions_.find(session);
    const double rtt_ms = delivery ? delivery->link_rtt_ms() : -1.0;
    return rtt_ms < 0 ? std::nullopt : std::optional(rtt_ms);
}

void SocketListener::set_tls(std::shared_ptr<Tls> tls) {
    loop_.run([this, tls = std::move(tls)]() mutable { tls_ = std::move(tls); });
}

void SocketListener::disconnect(std::uint64_t number) {
    if (auto link = find(number)) return loop_.run([link = std::move(link)] { link->finish(); });
    loop_.run([this, number] { sessions_.forget(number); });
}

void SocketListener::close() {
    if (!loop_.joinable()) return;
    loop_.run([this] {
        ErrorStatus ignored;
        acceptor_.close(ignored);
        pause_.cancel();
        sessions_.stop();
        std::vector<std::shared_ptr<Link>> links;
        for (const auto& [number, peer] : peers_) links.push_back(peer.link);
        for (const auto& link : links) link->finish();
    });
    work_.reset();
    loop_.join();  // what is queued may leave; a peer that does not read is dropped in time
    inbox_.close();
}

std::shared_ptr<Link> SocketListener::find(std::uint64_t number) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto peer = peers_.find(number);
    return peer == peers_.end() ? nullptr : peer->second.link;
}

}  // namespace

std::unique_ptr<Listener> listen(const std::string& host, std::uint16_t port, ListenerLimits limits,
                                 std::shared_ptr<Tls> tls) {
    try {
        return std::make_unique<SocketListener>(host, port, limits, std::move(tls));
    } catch (const SystemError& error) {
        throw Disconnection(error.code().message());
    }
}

}  // namespace edgespec::net
