// The sessions that a server's connections have opened, and which channel of which connection is whose.
//
// A session is begun by an OPEN on a welcomed connection, outlives its connections, and is found again by RESUME under
// its own id, on connections of the identity that opened it only. All on the I/O thread, apart from what is said to be
// read from any.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>

#include "net/delivery.hpp"
#include "net/event.hpp"
#include "net/rate.hpp"

namespace edgespec::net {

// A connection: whose it is, and the sessions of its channels.
struct Peer {
    std::shared_ptr<Link> link;
    std::unique_ptr<asio::steady_timer> handshake;
    std::string address;
    std::string network;                  // the caller, where addresses have limits (network.hpp)
    std::optional<std::string> identity;  // once welcomed
    std::shared_ptr<DeviceShare> share;
    std::unordered_map<std::uint16_t, std::uint64_t> sessions;
};

class ServerSessions {
 public:
    using Tell = std::function<void(Event&&)>;
    using NextNumber = std::function<std::uint64_t()>;

    ServerSessions(asio::io_context& io, SessionLimits limits, Tell tell, NextNumber next_number)
        : io_(io),
          limits_(limits),
          tell_(std::move(tell)),
          next_number_(std::move(next_number)),
          opens_(limits.opens),
          resumes_(limits.resumes) {}

    // A frame on a channel of a welcomed connection. Throws BadFrame.
    void deliver(Peer& peer, const wire::Header& header, Received&& received);
    void detach(const Peer& peer, const std::string& reason);  // its connection is gone
    void forget(std::uint64_t number);
    void stop();  // delivers nothing more

    // From any thread; none: there is no such session.
    std::shared_ptr<Delivery> find(std::uint64_t number) const;
    // As it was given when the connection that opened the session was welcomed.
    std::optional<std::string> identity(std::uint64_t number) const;
    const Traffic& traffic() const { return *traffic_; }  // of all sessions

 private:
    struct Session {
        std::shared_ptr<Delivery> delivery;
        wire::SessionId id;
        std::string identity;
        std::uint64_t lane;
        Rate turns, tunes;
        bool away = false;
        bool closed = false;  // by its edge
    };

    void deliver_to(std::uint64_t number, Peer& peer, const wire::Header& header, Received&& received);
    void check_channels(Peer& peer) const;
    bool may_resume(Peer& peer, std::uint16_t channel);
    void open(Peer& peer, const wire::Header& header, Received&& received);
    void resume(Peer& peer, const wire::Header& header, const wire::Resume& resume);
    std::uint64_t bound(Peer& peer, std::uint16_t channel) const;
    bool carries(const Peer& peer, std::uint64_t number) const;
    std::uint64_t known(const Peer& peer, const wire::SessionId& id) const;
    std::uint64_t begin(const wire::SessionId& id, const Peer& peer);
    void end(std::uint64_t number, const std::string& reason);
    void bind(Peer& peer, std::uint16_t channel, std::uint64_t number);

    asio::io_context& io_;
    const SessionLimits limits_;
    const Tell tell_;
    const NextNumber next_number_;
    const std::shared_ptr<Traffic> traffic_ = std::make_shared<Traffic>();
    mutable std::mutex mutex_;  // guards sessions_, which any thread reads
    std::unordered_map<std::uint64_t, Session> sessions_;
    std::map<wire::SessionId, std::uint64_t> session_of_;
    Rates opens_, resumes_;  // by device, or by network where nobody says who it is
};

// An ERROR that says that a limit is reached, and when to try again.
Frame limit_reached(std::uint16_t channel, std::string_view what);

}  // namespace edgespec::net
