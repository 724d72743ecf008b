#include "net/server_sessions.hpp"

namespace edgespec::net {

namespace {

constexpr std::size_t kMostChannels = 256;
constexpr std::uint32_t kRetryAfterMs = 1000;

// By whose name the peer's rates are known.
const std::string& name_of(const Peer& peer) { return peer.identity->empty() ? peer.network : *peer.identity; }

// What taking in an OPEN counts for: its sections are parsed and hashed in the server's loop.
double openings(const wire::Open& open) {
    constexpr double kSamplingBytes = 4096, kPictureBytes = 65536;
    return 1 + static_cast<double>(open.sampling.size()) / kSamplingBytes +
           static_cast<double>(open.pictures.size()) / kPictureBytes;
}

// A frame that is refused costs its device this many frames more of its rate: an answer takes longer than a frame.
constexpr double kRefusalFrames = 20;

// A BLOCK costs its device one frame more for this many nodes: each has to find its place in the tree.
constexpr double kNodesAFrame = 4;

void refuse(Peer& peer, Frame error) {
    peer.share->frames.spend(kRefusalFrames, Clock::now());
    peer.link->send(std::move(error));
}

void refuse_unknown(Peer& peer, std::uint16_t channel) {
    const wire::Error error{wire::ErrorCode::kUnknownSession, true, 0, "the server knows no such session"};
    refuse(peer, frame_of(channel, error));
}

}  // namespace

Frame limit_reached(std::uint16_t channel, std::string_view what) {
    return frame_of(channel, wire::Error{wire::ErrorCode::kLimit, true, kRetryAfterMs, what});
}

void ServerSessions::deliver(Peer& peer, const wire::Header& header, Received&& received) {
    const auto type = static_cast<wire::FrameType>(header.type);
    if (const std::uint64_t number = bound(peer, header.channel)) {
        deliver_to(number, peer, header, std::move(received));
    } else if (type == wire::FrameType::kOpen) {
        open(peer, header, std::move(received));
    } else if (const auto* asked = std::get_if<wire::Resume>(&received.message)) {
        resume(peer, header, *asked);
    } else if (wire::is_sequenced(type) && type != wire::FrameType::kClose) {
        refuse_unknown(peer, header.channel);
    }
}

void ServerSessions::deliver_to(std::uint64_t number, Peer& peer, const wire::Header& header, Received&& received) {
    Session& session = sessions_.at(number);
    const auto type = static_cast<wire::FrameType>(header.type);
    if (type == wire::FrameType::kTune && !session.tunes.take(Clock::now())) {
        refuse(peer, limit_reached(header.channel, "the session's TUNEs follow each other too fast"));
        return end(number, "its TUNEs follow each other too fast");
    }
    if (type == wire::FrameType::kAppend && !session.turns.take(Clock::now())) {
        refuse(peer, limit_reached(header.channel, "the session's turns follow each other too fast"));
        return end(number, "its turns follow each other too fast");
    }
    if (const auto* block = std::get_if<wire::Block>(&received.message)) {
        peer.share->frames.spend(static_cast<double>(block->tokens.size) / kNodesAFrame, Clock::now());
    }
    const auto delivery = session.delivery;
    delivery->take(*peer.link, header, std::move(received));
    const auto after = sessions_.find(number);
    if (after != sessions_.end() && after->second.closed) forget(number);  // the channel is free
}

// Whether it may bring a session onto one more connection; it is told where it may not.
bool ServerSessions::may_resume(Peer& peer, std::uint16_t channel) {
    const bool may = resumes_.take(name_of(peer), Clock::now());
    if (!may) refuse(peer, limit_reached(channel, "sessions are resumed too fast"));
    return may;
}

// One more must have a place beside those that are bound. Throws BadFrame.
void ServerSessions::check_channels(Peer& peer) const {
    if (peer.sessions.size() < kMostChannels) return;
    for (auto one = peer.sessions.begin(); one != peer.sessions.end();) {
        one = sessions_.count(one->second) == 0 ? peer.sessions.erase(one) : std::next(one);
    }
    if (peer.sessions.size() >= kMostChannels) throw wire::BadFrame("the connection has too many sessions");
}

void ServerSessions::open(Peer& peer, const wire::Header& header, Received&& received) {
    if (header.sequence != 1) throw wire::BadFrame("an OPEN is a session's first frame");
    check_channels(peer);
    const auto& asked = std::get<wire::Open>(received.message);
    const wire::SessionId id = asked.session_id;
    std::uint64_t session = known(peer, id);
    if (session == 0 && session_of_.count(id) != 0) return refuse_unknown(peer, header.channel);
    if (carries(peer, session)) return;
    if (session == 0 && !opens_.take(name_of(peer), Clock::now(), openings(asked))) {
        return refuse(peer, limit_reached(header.channel, "sessions are opened too fast"));
    }
    if (session != 0 && !may_resume(peer, header.channel)) return;
    if (session == 0) session = begin(id, peer);
    bind(peer, header.channel, session);
    const auto delivery = sessions_.at(session).delivery;
    delivery->replay(*peer.link, header.acknowledge);  // nothing, unless this is an OPEN sent again
    delivery->take(*peer.link, header, std::move(received));
}

void ServerSessions::resume(Peer& peer, const wire::Header& header, const wire::Resume& resume) {
    check_channels(peer);
    if (!may_resume(peer, header.channel)) return;
    const std::uint64_t session = known(peer, resume.session_id);
    if (carries(peer, session)) return;
    if (session == 0) return refuse_unknown(peer, header.channel);
    const auto delivery = sessions_.at(session).delivery;
    delivery->acknowledged(resume.last_sequence);
    peer.link->send(frame_of(header.channel, wire::Resume{resume.session_id, delivery->received()}));
    bind(peer, header.channel, session);
    delivery->replay(*peer.link, resume.last_sequence);
}

// The session of this channel; 0: none, or one that has ended.
std::uint64_t ServerSessions::bound(Peer& peer, std::uint16_t channel) const {
    const auto found = peer.sessions.find(channel);
    if (found == peer.sessions.end()) return 0;
    if (sessions_.count(found->second) != 0) return found->second;
    peer.sessions.erase(found);
    return 0;
}

// A session has one channel of a connection. To bring it onto another would say all of it again.
bool ServerSessions::carries(const Peer& peer, std::uint64_t number) const {
    const auto found = sessions_.find(number);
    return found != sessions_.end() && found->second.delivery->goes_over(*peer.link);
}

// The session of this id, if the peer may have it; 0: none.
std::uint64_t ServerSessions::known(const Peer& peer, const wire::SessionId& id) const {
    const auto session = session_of_.find(id);
    if (session == session_of_.end() || sessions_.at(session->second).identity != *peer.identity) return 0;
    return session->second;
}

std::uint64_t ServerSessions::begin(const wire::SessionId& id, const Peer& peer) {
    const std::uint64_t lane = peer.share->lane;
    const std::uint64_t number = next_number_();
    DeliveryLimits limits;
    limits.ledger = {limits_.session_bytes, limits_.early_frames, limits_.early_bytes};
    auto delivery = std::make_shared<Delivery>(
        io_, limits,
        [this, number, lane](Received&& received) {
            if (std::holds_alternative<wire::Close>(received.message)) sessions_.at(number).closed = true;
            tell_({number, std::move(received), lane});
        },
        [this, number](const std::string& reason) { end(number, reason); }, traffic_);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto now = Clock::now();
    sessions_.emplace(number, Session{std::move(delivery), id, *peer.identity, lane, Rate(limits_.turns, now),
                                      Rate(limits_.tunes, now)});
    session_of_.emplace(id, number);
    return number;
}

void ServerSessions::bind(Peer& peer, std::uint16_t channel, std::uint64_t number) {
    Session& session = sessions_.at(number);
    peer.sessions[channel] = number;
    if (session.away) tell_({number, Returned{}, session.lane});
    session.away = false;
    session.delivery->attach(peer.link, channel);
}

void ServerSessions::end(std::uint64_t number, const std::string& reason) {
    const std::uint64_t lane = sessions_.at(number).lane;
    forget(number);
    tell_({number, Disconnected{reason}, lane});
}

void ServerSessions::forget(std::uint64_t number) {
    const auto session = sessions_.find(number);
    if (session == sessions_.end()) return;
    session->second.delivery->stop();
    const std::lock_guard<std::mutex> lock(mutex_);
    session_of_.erase(session->second.id);
    sessions_.erase(session);
}

void ServerSessions::detach(const Peer& peer, const std::string& reason) {
    for (const auto& [channel, number] : peer.sessions) {
        const auto found = sessions_.find(number);
        if (found == sessions_.end()) continue;
        Session& session = found->second;
        session.delivery->detach(*peer.link);
        if (session.away || !session.delivery->away()) continue;
        session.away = true;
        tell_({number, Away{reason}, session.lane});
    }
}

void ServerSessions::stop() {
    for (const auto& [number, session] : sessions_) session.delivery->stop();
}

std::shared_ptr<Delivery> ServerSessions::find(std::uint64_t number) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto session = sessions_.find(number);
    return session == sessions_.end() ? nullptr : session->second.delivery;
}

std::optional<std::string> ServerSessions::identity(std::uint64_t number) const {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = sessions_.find(number);
    return found == sessions_.end() ? std::nullopt : std::optional(found->second.identity);
}

}  // namespace edgespec::net
