#include "net/listener.hpp"

#include <algorithm>

namespace edgespec::net {

namespace {

constexpr std::size_t kMostChannels = 256;
constexpr std::chrono::milliseconds kAcceptPause{50};
constexpr std::size_t kMostOpeners = 4096;  // whose rate is remembered
constexpr std::uint32_t kRetryAfterMs = 1000;

asio::ip::tcp::endpoint endpoint_of(asio::io_context& io, const std::string& host, std::uint16_t port) {
    return *asio::ip::tcp::resolver(io).resolve(host, std::to_string(port), asio::ip::tcp::resolver::passive).begin();
}

Frame unknown_session(std::uint16_t channel) {
    return frame_of(channel,
                    wire::Error{wire::ErrorCode::kUnknownSession, true, 0, "the server knows no such session"});
}

Frame limit_reached(std::uint16_t channel, std::string_view what) {
    return frame_of(channel, wire::Error{wire::ErrorCode::kLimit, true, kRetryAfterMs, what});
}

}  // namespace

Listener::Listener(const std::string& host, std::uint16_t port, ListenerLimits limits, std::shared_ptr<Tls> tls)
    : io_(1),
      work_(asio::make_work_guard(io_)),
      acceptor_(io_),
      pause_(io_),
      limits_(limits),
      tls_(std::move(tls)),
      pool_(std::make_shared<SlabPool>(limits.slabs, limits.pinning)) {
    const auto endpoint = endpoint_of(io_, host, port);
    acceptor_.open(endpoint.protocol());
    acceptor_.set_option(asio::ip::tcp::acceptor::reuse_address(true));
    acceptor_.bind(endpoint);
    acceptor_.listen(limits.backlog);
    port_ = acceptor_.local_endpoint().port();
    loop_.run([this] { accept(); });
    loop_.start(limits_.busy_spin);
}

Listener::~Listener() { close(); }

void Listener::accept() {
    acceptor_.async_accept([this](ErrorStatus error, asio::ip::tcp::socket socket) {
        if (!acceptor_.is_open()) return;
        if (error) return accept_later();
        if (peers_.size() < limits_.connections) admit(std::move(socket));
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
    ErrorStatus ignored;
    const std::string address = socket.remote_endpoint(ignored).address().to_string();
    const std::uint64_t number = next_++;
    auto transport = tls_ ? tls_->transport(std::move(socket), {}, 0) : tcp_transport(std::move(socket));
    auto link = std::make_shared<Link>(io_, std::move(transport), pool_, limits_.link);
    auto handshake = std::make_unique<asio::steady_timer>(io_, limits_.hello_within);
    handshake->async_wait([link](ErrorStatus error) {
        if (!error) link->end("the peer did not say HELLO in time");
    });
    const auto crowd = static_cast<std::size_t>(
        std::count_if(peers_.begin(), peers_.end(), [&](const auto& peer) { return peer.second.address == address; }));
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        peers_.emplace(number, Peer{link, std::move(handshake), address, {}, {}});
    }
    const bool crowded = crowd >= limits_.connections_of_address;
    link->begin([this, number, crowded](const std::string& reason) {
        if (reason.empty()) return greet(number, crowded);
        const std::lock_guard<std::mutex> lock(mutex_);
        peers_.erase(number);
    });
}

// Bytes may pass: from here on the caller hears of this connection.
void Listener::greet(std::uint64_t number, bool crowded) {
    const Peer& peer = peers_.at(number);
    const auto link = peer.link;
    inbox_.push({number, Connected{peer.address, link->peer_name()}});
    link->start([this, number](Received&& received) { deliver(number, std::move(received)); },
                [this, number](const std::string& reason) { ended(number, reason); },
                [this, number](const wire::Header& header, Received& received) {
                    return deliver_to_session(number, header, received);
                });
    if (!crowded) return;
    link->send(limit_reached(0, "too many connections come from this address"));
    link->finish("too many connections come from this address");
}

void Listener::deliver(std::uint64_t number, Received&& received) {
    if (std::holds_alternative<wire::Hello>(received.message)) {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto peer = peers_.find(number);
        if (peer != peers_.end()) peer->second.handshake->cancel();
    }
    inbox_.push({number, std::move(received)});
}

// False: the channel is not a session's, and the connection has not been welcomed to have any.
bool Listener::deliver_to_session(std::uint64_t number, const wire::Header& header, Received& received) {
    Peer& peer = peers_.at(number);
    if (!peer.identity) return false;
    const auto bound = peer.sessions.find(header.channel);
    const auto type = static_cast<wire::FrameType>(header.type);
    if (bound != peer.sessions.end()) {
        const std::uint64_t number_of_session = bound->second;
        Session& session = sessions_.at(number_of_session);
        if (type == wire::FrameType::kAppend && !session.turns.take(Clock::now())) {
            peer.link->put(limit_reached(header.channel, "the session's turns follow each other too fast"));
            end_session(number_of_session, "its turns follow each other too fast");
            return true;
        }
        const auto delivery = session.delivery;
        delivery->take(*peer.link, header, std::move(received));
        const auto after = sessions_.find(number_of_session);
        if (after != sessions_.end() && after->second.closed) forget(number_of_session);  // the channel is free
    } else if (type == wire::FrameType::kOpen) {
        open(peer, header, std::move(received));
    } else if (const auto* asked = std::get_if<wire::Resume>(&received.message)) {
        resume(peer, header, *asked);
    } else if (wire::is_sequenced(type) && type != wire::FrameType::kClose) {
        peer.link->put(unknown_session(header.channel));
    }
    return true;
}

void Listener::open(Peer& peer, const wire::Header& header, Received&& received) {
    if (header.sequence != 1) throw wire::BadFrame("an OPEN is a session's first frame");
    if (peer.sessions.size() >= kMostChannels) throw wire::BadFrame("the connection has too many sessions");
    const wire::SessionId id = std::get<wire::Open>(received.message).session_id;
    std::uint64_t session = known(peer, id);
    if (session == 0 && session_of_.count(id) != 0) return peer.link->put(unknown_session(header.channel));
    if (session == 0 && !may_open(peer)) {
        return peer.link->put(limit_reached(header.channel, "sessions are opened too fast"));
    }
    if (session == 0) session = begin(id, *peer.identity);
    bind(peer, header.channel, session);
    const auto delivery = sessions_.at(session).delivery;
    delivery->replay(*peer.link, header.acknowledge);  // nothing, unless this is an OPEN sent again
    delivery->take(*peer.link, header, std::move(received));
}

void Listener::resume(Peer& peer, const wire::Header& header, const wire::Resume& resume) {
    const std::uint64_t session = known(peer, resume.session_id);
    if (session == 0) return peer.link->put(unknown_session(header.channel));
    const auto delivery = sessions_.at(session).delivery;
    delivery->acknowledged(resume.last_sequence);
    peer.link->put(frame_of(header.channel, wire::Resume{resume.session_id, delivery->received()}));
    bind(peer, header.channel, session);
    delivery->replay(*peer.link, resume.last_sequence);
}

// The session of that id which the peer may have; 0: none.
std::uint64_t Listener::known(const Peer& peer, const wire::SessionId& id) const {
    const auto session = session_of_.find(id);
    if (session == session_of_.end() || sessions_.at(session->second).identity != *peer.identity) return 0;
    return session->second;
}

std::uint64_t Listener::begin(const wire::SessionId& id, const std::string& identity) {
    const std::uint64_t number = next_++;
    DeliveryLimits limits;
    limits.ledger = {limits_.session_bytes, limits_.early_frames};
    auto delivery = std::make_shared<Delivery>(
        io_, limits,
        [this, number](Received&& received) {
            if (std::holds_alternative<wire::Close>(received.message)) sessions_.at(number).closed = true;
            inbox_.push({number, std::move(received)});
        },
        [this, number](const std::string& reason) {
            forget(number);
            inbox_.push({number, Disconnected{reason}});
        },
        traffic_);
    const std::lock_guard<std::mutex> lock(mutex_);
    sessions_.emplace(number, Session{std::move(delivery), id, identity, Rate(limits_.turns, Clock::now())});
    session_of_.emplace(id, number);
    return number;
}

void Listener::bind(Peer& peer, std::uint16_t channel, std::uint64_t number) {
    Session& session = sessions_.at(number);
    peer.sessions[channel] = number;
    if (session.away) inbox_.push({number, Returned{}});
    session.away = false;
    session.delivery->attach(peer.link, channel);
}

// Whether this peer, by whatever it is known, has not begun too many sessions of late.
bool Listener::may_open(const Peer& peer) {
    const auto now = Clock::now();
    if (opens_.size() >= kMostOpeners) {
        for (auto one = opens_.begin(); one != opens_.end();) {
            one = one->second.full(now) ? opens_.erase(one) : std::next(one);
        }
    }
    const std::string& who = peer.identity->empty() ? peer.address : *peer.identity;
    return opens_.try_emplace(who, limits_.opens, now).first->second.take(now);
}

void Listener::end_session(std::uint64_t number, const std::string& reason) {
    forget(number);
    inbox_.push({number, Disconnected{reason}});
}

void Listener::forget(std::uint64_t number) {
    const auto session = sessions_.find(number);
    if (session == sessions_.end()) return;
    session->second.delivery->stop();
    for (auto& [connection, peer] : peers_) {
        for (auto bound = peer.sessions.begin(); bound != peer.sessions.end();) {
            bound = bound->second == number ? peer.sessions.erase(bound) : std::next(bound);
        }
    }
    const std::lock_guard<std::mutex> lock(mutex_);
    session_of_.erase(session->second.id);
    sessions_.erase(session);
}

void Listener::ended(std::uint64_t number, const std::string& reason) {
    Peer peer;
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        peer = std::move(peers_.at(number));
        peers_.erase(number);
    }
    for (const auto& [channel, bound] : peer.sessions) {
        Session& session = sessions_.at(bound);
        session.delivery->detach(*peer.link);
        if (session.away || !session.delivery->away()) continue;
        session.away = true;
        inbox_.push({bound, Away{reason}});
    }
    inbox_.push({number, Disconnected{reason}});
}

bool Listener::welcome(std::uint64_t connection, Frame frame, std::string identity) {
    if (!find(connection)) return false;
    const auto agreed = agreed_payload(frame);
    if (!agreed) throw std::invalid_argument("a connection is welcomed with a WELCOME");
    loop_.run([this, connection, agreed, frame = std::move(frame), identity = std::move(identity)]() mutable {
        const auto peer = peers_.find(connection);
        if (peer == peers_.end()) return;
        peer->second.identity = std::move(identity);
        peer->second.link->set_max_payload(*agreed);
        peer->second.link->send(std::move(frame));
    });
    return true;
}

bool Listener::send(std::uint64_t number, Frame frame) {
    if (auto link = find(number)) {
        const auto agreed = agreed_payload(frame);
        loop_.run([link = std::move(link), frame = std::move(frame), agreed]() mutable {
            if (agreed) link->set_max_payload(*agreed);
            link->send(std::move(frame));
        });
        return true;
    }
    auto delivery = find_session(number);
    if (!delivery) return false;
    loop_.run(
        [delivery = std::move(delivery), frame = std::move(frame)]() mutable { delivery->send(std::move(frame)); });
    return true;
}

std::optional<std::string> Listener::identity(std::uint64_t session) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = sessions_.find(session);
    return found == sessions_.end() ? std::nullopt : std::optional(found->second.identity);
}

std::optional<double> Listener::rtt_ms(std::uint64_t session) const {
    const auto delivery = find_session(session);
    const double rtt_ms = delivery ? delivery->link_rtt_ms() : -1.0;
    return rtt_ms < 0 ? std::nullopt : std::optional(rtt_ms);
}

void Listener::set_tls(std::shared_ptr<Tls> tls) {
    loop_.run([this, tls = std::move(tls)]() mutable { tls_ = std::move(tls); });
}

void Listener::disconnect(std::uint64_t number) {
    if (auto link = find(number)) return loop_.run([link = std::move(link)] { link->finish(); });
    loop_.run([this, number] { forget(number); });
}

void Listener::close() {
    if (!loop_.joinable()) return;
    loop_.run([this] {
        ErrorStatus ignored;
        acceptor_.close(ignored);
        pause_.cancel();
        for (const auto& [number, session] : sessions_) session.delivery->stop();
        std::vector<std::shared_ptr<Link>> links;
        for (const auto& [number, peer] : peers_) links.push_back(peer.link);
        for (const auto& link : links) link->finish();
    });
    work_.reset();
    loop_.join();  // what is queued may leave; a peer that does not read is dropped in time
    inbox_.close();
}

std::shared_ptr<Link> Listener::find(std::uint64_t number) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto peer = peers_.find(number);
    return peer == peers_.end() ? nullptr : peer->second.link;
}

std::shared_ptr<Delivery> Listener::find_session(std::uint64_t number) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto session = sessions_.find(number);
    return session == sessions_.end() ? nullptr : session->second.delivery;
}

}  // namespace edgespec::net
