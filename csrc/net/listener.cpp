#include "net/listener.hpp"

namespace edgespec::net {

namespace {

constexpr std::size_t kMostPeers = 2048;
constexpr std::chrono::milliseconds kHandshakeWithin{5000};
constexpr std::chrono::milliseconds kAcceptPause{50};

asio::ip::tcp::endpoint endpoint_of(asio::io_context& io, const std::string& host, std::uint16_t port) {
    return *asio::ip::tcp::resolver(io).resolve(host, std::to_string(port), asio::ip::tcp::resolver::passive).begin();
}

}  // namespace

Listener::Listener(const std::string& host, std::uint16_t port, int backlog, LinkLimits limits, std::size_t slabs)
    : io_(1),
      work_(asio::make_work_guard(io_)),
      acceptor_(io_),
      pause_(io_),
      limits_(limits),
      pool_(std::make_shared<SlabPool>(slabs)) {
    const auto endpoint = endpoint_of(io_, host, port);
    acceptor_.open(endpoint.protocol());
    acceptor_.set_option(asio::ip::tcp::acceptor::reuse_address(true));
    acceptor_.bind(endpoint);
    acceptor_.listen(backlog);
    port_ = acceptor_.local_endpoint().port();
    asio::post(io_, [this] { accept(); });
    thread_ = std::thread([this] { io_.run(); });
}

Listener::~Listener() { close(); }

void Listener::accept() {
    acceptor_.async_accept([this](ErrorStatus error, asio::ip::tcp::socket socket) {
        if (!acceptor_.is_open()) return;
        if (error) return accept_later();
        if (peers_.size() < kMostPeers) admit(std::move(socket));
        accept();
    });
}

// Accepting fails at once and again while there is no file descriptor left.
void Listener::accept_later() {
    pause_.expires_after(kAcceptPause);
    pause_.async_wait([this](ErrorStatus) {
        if (acceptor_.is_open()) accept();
    });
}

void Listener::admit(asio::ip::tcp::socket socket) {
    const std::uint64_t number = next_++;
    auto link = std::make_shared<Link>(io_, tcp_transport(std::move(socket)), pool_, limits_);
    auto handshake = std::make_unique<asio::steady_timer>(io_, kHandshakeWithin);
    handshake->async_wait([link](ErrorStatus error) {
        if (!error) link->end("the peer did not say HELLO in time");
    });
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        peers_.emplace(number, Peer{link, std::move(handshake)});
    }
    inbox_.push({number, Connected{}});
    link->start([this, number](Received&& received) { deliver(number, std::move(received)); },
                [this, number](const std::string& reason) { ended(number, reason); });
}

void Listener::deliver(std::uint64_t number, Received&& received) {
    if (std::holds_alternative<wire::Hello>(received.message)) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto peer = peers_.find(number);
        if (peer != peers_.end()) peer->second.handshake->cancel();
    }
    inbox_.push({number, std::move(received)});
}

void Listener::ended(std::uint64_t number, const std::string& reason) {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        peers_.erase(number);
    }
    inbox_.push({number, Disconnected{reason}});
}

bool Listener::send(std::uint64_t connection, Frame frame) {
    auto link = find(connection);
    if (!link) return false;
    const auto header = wire::read_header(frame.data());
    std::size_t max_payload = 0;
    if (header.type == static_cast<std::uint8_t>(wire::FrameType::kWelcome)) {
        max_payload =
            agreed_payload(wire::decode<wire::Welcome>(frame.data() + wire::kHeaderBytes, header.payload_bytes));
    }
    asio::post(io_, [link = std::move(link), frame = std::move(frame), max_payload]() mutable {
        if (max_payload != 0) link->set_max_payload(max_payload);
        link->send(std::move(frame));
    });
    return true;
}

void Listener::disconnect(std::uint64_t connection) {
    if (auto link = find(connection)) asio::post(io_, [link = std::move(link)] { link->finish(); });
}

void Listener::close() {
    if (!thread_.joinable()) return;
    asio::post(io_, [this] {
        ErrorStatus ignored;
        acceptor_.close(ignored);
        pause_.cancel();
        std::vector<std::shared_ptr<Link>> links;
        for (const auto& [number, peer] : peers_) links.push_back(peer.link);
        for (const auto& link : links) link->finish();
    });
    work_.reset();
    thread_.join();  // what is queued may leave; a peer that does not read is dropped in time
    inbox_.close();
}

std::shared_ptr<Link> Listener::find(std::uint64_t number) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto peer = peers_.find(number);
    return peer == peers_.end() ? nullptr : peer->second.link;
}

}  // namespace edgespec::net
