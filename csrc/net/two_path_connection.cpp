#include "net/two_path_connection.hpp"

#include <algorithm>

namespace edgespec::net {

namespace {

constexpr std::size_t kSlabs = 256;
constexpr unsigned kStrays = 2;  // after which it is no accident

// What tells a target from another: the hash behind its name, or all of it (edgespec/core/target_identity.py).
std::string_view identity(std::string_view target_id) { return target_id.substr(target_id.rfind('@') + 1); }

}  // namespace

TwoPathConnection::TwoPathConnection(std::vector<Address> addresses, Frame hello, ResilientConnectionLimits limits,
                                     std::shared_ptr<Tls> tls)
    : io_(1),
      work_(io_.get_executor()),
      servers_(std::move(addresses)),
      limits_(limits),
      setup_{std::move(hello), std::move(tls),      std::make_shared<SlabPool>(kSlabs),
             limits.link,      limits.greet_within, counters_},
      paths_{Path(io_, *this, setup_), Path(io_, *this, setup_)},
      outage_(
          io_, limits.outage, [this] { tell(Offline{}); }, [this] { tell(GivenUp{reason()}); }),
      beside_(io_) {
    loop_.run([this] { approach(paths_[0], 0); });
    loop_.start(limits_.busy_spin);
}

void TwoPathConnection::end() {
    close();
    work_.reset();
    if (loop_.joinable()) loop_.join();
}

// What the caller's thread asks for

void TwoPathConnection::open(Frame open) {
    if (dead_) throw Disconnection(reason());
    loop_.run([this, open = std::move(open)]() mutable {
        if (closing_) return;
        const wire::Header header = wire::read_header(open.data());
        session_id_ = wire::decode<wire::Open>(open.data() + wire::kHeaderBytes, header.payload_bytes).session_id;
        forget();
        ++channel_;
        delivery_ = std::make_shared<Delivery>(
            io_, limits_.delivery, [this](Received&& received) { inbox_.push(std::move(received)); },
            [this](const std::string& reason) { die(reason); }, traffic_);
        delivery_->send(std::move(open));
        for (Path& path : paths_) {
            if (path.stage() == Path::Stage::kResuming || up(path)) path.enter(Path::Stage::kWelcomed);
        }
        for (Path& path : paths_) {
            if (path.stage() == Path::Stage::kWelcomed) return begin(path);
        }
    });
}

void TwoPathConnection::send(Frame frame) {
    if (dead_) throw Disconnection(reason());
    loop_.run([delivery = &delivery_, frame = std::move(frame)]() mutable {
        if (const auto session = *delivery) session->send(std::move(frame));
    });
}

void TwoPathConnection::ask(Frame frame) {
    if (dead_) throw Disconnection(reason());
    loop_.run([this, frame = std::move(frame)]() mutable {
        for (Path& path : paths_) {
            if (path.stage() >= Path::Stage::kWelcomed) return path.link()->send(std::move(frame));
        }
    });
}

void TwoPathConnection::move() {
    loop_.run([this] {
        if (closing_ || servers_.size() < 2) return;
        for (Path& path : paths_) path.drop();
        servers_.move();
        outage_.start_over();
        lose("the server is going away");
        search(paths_[0]);
    });
}

// Connections there are, and attempts under way, stay with their servers.
void TwoPathConnection::set_servers(std::vector<Address> others) {
    loop_.run([this, others = std::move(others)] {
        if (!closing_) servers_.replace<2>(others, {&paths_[0].address, &paths_[1].address});
    });
}

void TwoPathConnection::close() {
    if (dead_.exchange(true)) return;
    note("closed");
    loop_.run([this] {
        closing_ = true;
        forget();
        for (Path& path : paths_) path.finish();
        outage_.silence();
        beside_.cancel();
        inbox_.close();
    });
}

// A connection's life

void TwoPathConnection::heard(Path& path, Received&& received) {
    if (std::holds_alternative<wire::Welcome>(received.message)) {
        if (path.stage() == Path::Stage::kGreeting) hear_welcome(path, std::move(received));
    } else if (const auto* error = std::get_if<wire::Error>(&received.message)) {
        const std::string reason(error->message);
        const bool greeting = path.stage() == Path::Stage::kGreeting;
        if (!greeting || !reached_) inbox_.push(std::move(received));
        if (greeting) failed(path, reason);
    } else if (up(path) || std::holds_alternative<wire::File>(received.message)) {
        inbox_.push(std::move(received));
    }
}

void TwoPathConnection::hear_welcome(Path& path, Received&& received) {
    const auto& welcome = std::get<wire::Welcome>(received.message);
    Path& rest = other(path);
    if (up(rest) && path.address != rest.address) {  // another server was found first: both paths go there
        path.drop();
        return warm(rest);
    }
    if (!reached_) target_id_ = welcome.target_id;
    if (identity(target_id_) != identity(welcome.target_id)) return hear_other_target(path, welcome.target_id);
    path.enter(Path::Stage::kWelcomed);
    path.link()->set_max_payload(agreed_payload(welcome));
    reached_ = true;
    if (!limits_.hedge && rest.stage() >= Path::Stage::kWelcomed) return path.drop();
    if (!up(rest)) {
        servers_.found_at(path.address);
        inbox_.push(std::move(received));
    }
    begin(path);
}

// Its texts would be others: nothing of the session is shown to it.
void TwoPathConnection::hear_other_target(Path& path, std::string_view target_id) {
    const std::string other_id(target_id);
    up(other(path)) ? stray(path) : inbox_.push(OtherTarget{other_id, servers_[path.address]});
    failed(path, "the server serves " + other_id);
}

// Brings the session onto a connection that was welcomed.
void TwoPathConnection::begin(Path& path) {
    path.channel = channel_;
    if (delivery_ && delivery_->begun()) {
        path.enter(Path::Stage::kResuming);
        path.link()->send(frame_of(channel_, wire::Resume{session_id_, delivery_->received()}));
        return;
    }
    path.greeted();
    if (!delivery_) {
        found(path.address);
        return warm(path);
    }
    if (!up(other(path))) carry(path);  // the OPEN goes out again, and all that follows it
}

void TwoPathConnection::heard_of_session(Path& path, const wire::Header& header, Received&& received) {
    if (!delivery_ || header.channel != path.channel) return;
    const auto* error = std::get_if<wire::Error>(&received.message);
    if (error != nullptr && error->code == wire::ErrorCode::kUnknownSession) return forgotten(path);
    if (path.stage() == Path::Stage::kResuming) {
        if (error != nullptr) return failed(path, std::string(error->message));
        if (const auto* resume = std::get_if<wire::Resume>(&received.message)) {
            delivery_->acknowledged(resume->last_sequence);
            carry(path);
        }
    } else if (path.stage() == Path::Stage::kCarrying) {
        const auto delivery = delivery_;
        delivery->take(*path.link(), header, std::move(received));
        Path& spare = other(path);
        if (delivery == delivery_ && delivery->begun() && spare.stage() == Path::Stage::kWelcomed) begin(spare);
    }
}

// The session goes on over this connection.
void TwoPathConnection::carry(Path& path) {
    Path& spare = other(path);
    path.enter(Path::Stage::kCarrying);
    path.failures = 0;
    path.greeted();
    delivery_->attach(path.link(), path.channel, up(spare));
    found(path.address);
    warm(path);
}

// Makes the second connection, beside this one.
void TwoPathConnection::warm(const Path& path) {
    Path& spare = other(path);
    if (limits_.hedge && spare.stage() == Path::Stage::kIdle) approach(spare, path.address);
}

// The server has no such session. If the other connection carries it, so much the better.
void TwoPathConnection::forgotten(Path& path) {
    if (path.stage() == Path::Stage::kResuming && up(other(path))) {
        stray(path);
        return failed(path, "the server does not know the session");
    }
    forget();
    other(path).drop();
    path.enter(Path::Stage::kWelcomed);
    path.greeted();
    inbox_.push(Forgotten{outage_.end(), servers_[path.address]});
}

// This path's address led to another machine than the other path's.
void TwoPathConnection::stray(const Path& path) {
    if (++strays_ == kStrays) inbox_.push(Astray{servers_[path.address]});
}

void TwoPathConnection::entered() {
    unsigned welcomed = 0, carrying = 0;
    for (const Path& one : paths_) {
        if (one.stage() >= Path::Stage::kWelcomed) ++welcomed;
        if (one.stage() == Path::Stage::kCarrying) ++carrying;
    }
    welcomed_ = welcomed;
    carrying_ = carrying;
}

void TwoPathConnection::forget() {
    if (delivery_) delivery_->stop();
    delivery_.reset();
    strays_ = 0;
}

void TwoPathConnection::die(const std::string& reason) {
    for (Path& path : paths_) path.drop();
    forget();
    note(reason);
    outage_.silence();
    beside_.cancel();
    dead_ = true;
    inbox_.close();
}

std::unique_ptr<ResilientConnection> connect(std::vector<Address> addresses, Frame hello,
                                             ResilientConnectionLimits limits, std::shared_ptr<Tls> tls) {
    return std::make_unique<TwoPathConnection>(std::move(addresses), std::move(hello), limits, std::move(tls));
}

}  // namespace edgespec::net
