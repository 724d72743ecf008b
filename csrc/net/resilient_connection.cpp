#include "net/resilient_connection.hpp"

#include <algorithm>

namespace edgespec::net {

namespace {

constexpr std::size_t kSlabs = 256;
constexpr unsigned kStrays = 2;  // after which it is no accident

}  // namespace

ResilientConnection::ResilientConnection(std::vector<Address> addresses, Frame hello, ResilientConnectionLimits limits,
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

ResilientConnection::~ResilientConnection() { end(); }

void ResilientConnection::end() {
    close();
    work_.reset();
    if (loop_.joinable()) loop_.join();
}

// What the caller's thread asks for

void ResilientConnection::open(Frame open) {
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

void ResilientConnection::send(Frame frame) {
    if (dead_) throw Disconnection(reason());
    loop_.run([delivery = &delivery_, frame = std::move(frame)]() mutable {
        if (const auto session = *delivery) session->send(std::move(frame));
    });
}

void ResilientConnection::ask(Frame frame) {
    if (dead_) throw Disconnection(reason());
    loop_.run([this, frame = std::move(frame)]() mutable {
        for (Path& path : paths_) {
            if (path.stage() >= Path::Stage::kWelcomed) return path.link()->send(std::move(frame));
        }
    });
}

void ResilientConnection::move() {
    loop_.run([this] {
        if (closing_ || servers_.size() < 2) return;
        for (Path& path : paths_) path.drop();
        servers_.move();
        lose("the server is going away");
        search(paths_[0]);
    });
}

// Connections there are, and attempts under way, stay with their servers.
void ResilientConnection::set_servers(std::vector<Address> others) {
    loop_.run([this, others = std::move(others)] {
        if (!closing_) servers_.replace<2>(others, {&paths_[0].address, &paths_[1].address});
    });
}

void ResilientConnection::close() {
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

void ResilientConnection::approach(Path& path, std::size_t address) {
    path.address = address;
    path.dial(servers_[address], dial_within(path));
    if (lost()) approach_beside(limits_.dial_beside);
}

// A server that is out of reach says nothing, and the link may be back the next moment: an attempt that has come to
// nothing yet is joined by another, so that one always begins soon after.
void ResilientConnection::approach_beside(std::chrono::milliseconds after) {
    beside_.expires_after(after);
    beside_.async_wait([this](ErrorStatus error) {
        if (error || !lost() || closing_) return;
        const auto is = [this](Path::Stage stage) {
            return std::find_if(paths_.begin(), paths_.end(), [&](const Path& path) { return path.stage() == stage; });
        };
        const auto idle = is(Path::Stage::kIdle);
        if (is(Path::Stage::kDialling) == paths_.end() && is(Path::Stage::kGreeting) == paths_.end()) return;
        idle == paths_.end() ? approach_beside(limits_.dial_beside / 4) : approach(*idle, next_server());
    });
}

void ResilientConnection::heard(Path& path, Received&& received) {
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

void ResilientConnection::hear_welcome(Path& path, Received&& received) {
    path.enter(Path::Stage::kWelcomed);
    path.link()->set_max_payload(agreed_payload(std::get<wire::Welcome>(received.message)));
    reached_ = true;
    if (!limits_.hedge && other(path).stage() >= Path::Stage::kWelcomed) return path.drop();
    if (!up(other(path))) {
        servers_.found_at(path.address);
        inbox_.push(std::move(received));
    }
    begin(path);
}

// Brings the session onto a connection that was welcomed.
void ResilientConnection::begin(Path& path) {
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

void ResilientConnection::heard_of_session(Path& path, const wire::Header& header, Received&& received) {
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
void ResilientConnection::carry(Path& path) {
    Path& spare = other(path);
    path.enter(Path::Stage::kCarrying);
    path.failures = 0;
    path.greeted();
    delivery_->attach(path.link(), path.channel, up(spare));
    found(path.address);
    warm(path);
}

// Makes the second connection, beside this one.
void ResilientConnection::warm(const Path& path) {
    Path& spare = other(path);
    if (limits_.hedge && spare.stage() == Path::Stage::kIdle) approach(spare, path.address);
}

// The server has no such session. If the other connection carries it, so much the better.
void ResilientConnection::forgotten(Path& path) {
    if (path.stage() == Path::Stage::kResuming && up(other(path))) {
        if (++strays_ == kStrays) inbox_.push(Astray{servers_[path.address]});
        return failed(path, "the server does not know the session");
    }
    forget();
    other(path).drop();
    path.enter(Path::Stage::kWelcomed);
    path.greeted();
    inbox_.push(Forgotten{outage_.end(), servers_[path.address]});
}

void ResilientConnection::failed(Path& path, const std::string& reason) {
    path.drop();
    note(reason);
    ++path.failures;
    Path& rest = other(path);
    if (!reached_) {
        if (path.address + 1 < servers_.size()) return approach(path, path.address + 1);
        return die(reason);
    }
    if (up(rest)) return limits_.hedge ? approach_after(path, rest.address, path.failures) : void();
    lose(reason);
    if (rest.stage() == Path::Stage::kIdle || rest.stage() == Path::Stage::kPausing) {
        rest.drop();
        search(path);
    }
}

void ResilientConnection::entered() {
    unsigned welcomed = 0, carrying = 0;
    for (const Path& one : paths_) {
        if (one.stage() >= Path::Stage::kWelcomed) ++welcomed;
        if (one.stage() == Path::Stage::kCarrying) ++carrying;
    }
    welcomed_ = welcomed;
    carrying_ = carrying;
}

// The link is lost: try the servers in turn, the last one first; pause after each round.
void ResilientConnection::search(Path& path) {
    const unsigned failed_rounds = outage_.failed_rounds(servers_.size());
    approach_after(path, next_server(), failed_rounds);
}

// At once, or after failures with a pause.
void ResilientConnection::approach_after(Path& path, std::size_t address, unsigned failures) {
    if (failures == 0) return approach(path, address);
    path.pause(outage_.pause(failures), [this, &path, address] {
        const Path& rest = other(path);  // the servers may have changed meanwhile
        approach(path, up(rest) ? rest.address : std::min(address, servers_.size() - 1));
    });
}

// Losing the link, and finding it again

void ResilientConnection::lose(const std::string& reason) {
    if (lost()) return;
    outage_.begin();
    inbox_.push(Lost{reason});
}

void ResilientConnection::found(std::size_t address) {
    if (lost()) inbox_.push(Reconnected{outage_.end(), servers_[address]});
}

void ResilientConnection::forget() {
    if (delivery_) delivery_->stop();
    delivery_.reset();
    strays_ = 0;
}

void ResilientConnection::die(const std::string& reason) {
    for (Path& path : paths_) path.drop();
    forget();
    note(reason);
    outage_.silence();
    beside_.cancel();
    dead_ = true;
    inbox_.close();
}

std::chrono::milliseconds ResilientConnection::dial_within(const Path& path) const {
    if (!reached_) return limits_.first_contact / static_cast<int>(servers_.size());
    const std::chrono::milliseconds three(static_cast<int>(3 * std::max(0.0, counters_->rtt_ms.load())));
    const auto longer = three * (1 << std::min(path.failures, 4u));
    return std::clamp(longer, limits_.dial_at_least, limits_.dial_at_most);
}

}  // namespace edgespec::net
