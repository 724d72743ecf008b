// The server's listening socket, its connections and the sessions on them: one I/O thread, one inbox of events.
//
// Connections and sessions have numbers from one row; an event bears the number of what it is about. A session is
// begun by an OPEN on a welcomed connection, outlives its connections, and is found again by RESUME under its own id,
// on connections of the identity that opened it only. When a session without connections ends is the caller's business.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>

#include "net/delivery.hpp"
#include "net/loop.hpp"
#include "net/rate.hpp"
#include "net/tls.hpp"

namespace edgespec::net {

struct Connected {
    std::string address;      // the peer's, without its port
    std::string certificate;  // the name in the certificate it showed; empty: none was asked for
};
struct Disconnected {
    std::string reason;
};
struct Away {  // the session's last connection is gone
    std::string reason;
};
struct Returned {};  // and now it has one again
struct Event {
    std::uint64_t number = 0;
    std::variant<Connected, Disconnected, Away, Returned, Received> what;
};

struct ListenerLimits {
    LinkLimits link;
    int backlog = 128;
    std::size_t slabs = 4096;
    std::size_t connections = 2048;
    std::size_t connections_of_address = 512;
    std::chrono::milliseconds hello_within{5000};  // from a connection's beginning to its HELLO, TLS included
    RateLimit opens{50, 512};                      // sessions begun by one device, or from one address
    std::size_t session_bytes = 1u << 20;          // sent to a session and not acknowledged
    std::size_t early_frames = 256;                // of a session, that wait for one before them
    RateLimit turns{20, 64};                       // APPENDs of one session
    Pinning pinning;                               // of the slabs
    bool busy_spin = false;                        // nobody who waits for the sockets sleeps: for a core to spare
};

class Listener {
 public:
    // Throws the system's error when the address cannot be had.
    Listener(const std::string& host, std::uint16_t port, ListenerLimits limits, std::shared_ptr<Tls> tls = nullptr);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    std::uint16_t port() const { return port_; }
    const Traffic& traffic() const { return *traffic_; }  // of all sessions
    Inbox<Event>& inbox() { return inbox_; }
    Loop<Event>& loop() { return loop_; }
    const SlabPool& pool() const { return *pool_; }
    // A WELCOME; from here on the connection may open sessions, and resume those that `identity` opened.
    bool welcome(std::uint64_t connection, Frame frame, std::string identity);
    bool send(std::uint64_t number, Frame frame);  // false when that connection or session is gone
    // Of a session, as it was given when its connection was welcomed; none: there is no such session.
    std::optional<std::string> identity(std::uint64_t session) const;
    // The smoothed round trip of the connection by which that session was heard last; none: not known, or no session.
    std::optional<double> rtt_ms(std::uint64_t session) const;
    void set_tls(std::shared_ptr<Tls> tls);  // for connections to come
    void disconnect(std::uint64_t number);   // a connection, once everything queued has left; forgets a session
    void close();

 private:
    struct Peer {
        std::shared_ptr<Link> link;
        std::unique_ptr<asio::steady_timer> handshake;
        std::string address;
        std::optional<std::string> identity;                        // once welcomed
        std::unordered_map<std::uint16_t, std::uint64_t> sessions;  // by channel
    };
    struct Session {
        std::shared_ptr<Delivery> delivery;
        wire::SessionId id;
        std::string identity;
        Rate turns;
        bool away = false;
        bool closed = false;  // by its edge
    };

    void accept();
    void accept_later();
    void admit(asio::ip::tcp::socket socket);
    void greet(std::uint64_t number, bool crowded);
    void deliver(std::uint64_t number, Received&& received);
    bool deliver_to_session(std::uint64_t number, const wire::Header& header, Received& received);
    void open(Peer& peer, const wire::Header& header, Received&& received);
    void resume(Peer& peer, const wire::Header& header, const wire::Resume& resume);
    std::uint64_t known(const Peer& peer, const wire::SessionId& id) const;
    std::uint64_t begin(const wire::SessionId& id, const std::string& identity);
    void end_session(std::uint64_t session, const std::string& reason);
    bool may_open(const Peer& peer);
    void bind(Peer& peer, std::uint16_t channel, std::uint64_t session);
    void forget(std::uint64_t session);
    void ended(std::uint64_t number, const std::string& reason);
    std::shared_ptr<Link> find(std::uint64_t number) const;
    std::shared_ptr<Delivery> find_session(std::uint64_t number) const;

    asio::io_context io_;
    asio::executor_work_guard<asio::io_context::executor_type> work_;
    asio::ip::tcp::acceptor acceptor_;
    asio::steady_timer pause_;
    const ListenerLimits limits_;
    std::shared_ptr<Tls> tls_;
    std::uint16_t port_ = 0;
    std::shared_ptr<SlabPool> pool_;
    const std::shared_ptr<Traffic> traffic_ = std::make_shared<Traffic>();
    Inbox<Event> inbox_;
    mutable std::mutex mutex_;  // guards peers_ and sessions_, which the caller's thread reads
    std::unordered_map<std::uint64_t, Peer> peers_;
    std::unordered_map<std::uint64_t, Session> sessions_;
    std::map<wire::SessionId, std::uint64_t> session_of_;
    std::unordered_map<std::string, Rate> opens_;  // by device, or by address where nobody says who it is
    std::uint64_t next_ = 1;
    Loop<Event> loop_{io_, inbox_};
};

}  // namespace edgespec::net
