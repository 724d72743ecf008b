// The server's listening socket, its connections and the sessions on them: one I/O thread, one inbox of events.
//
// Connections and sessions are numbered together; an event bears the number of what it is about. When a session without
// connections ends is decided by the caller.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <unordered_map>

#include "net/loop.hpp"
#include "net/server_sessions.hpp"
#include "net/strangers.hpp"
#include "net/tls.hpp"

namespace edgespec::net {

struct ListenerLimits {
    LinkLimits link;
    int backlog = 128;
    std::size_t slabs = 4096;
    std::size_t connections = 2048;
    std::size_t connections_of_address = 512;
    StrangerLimits strangers;
    ShareLimits device;
    std::chrono::milliseconds hello_within{5000};  // from a connection's beginning to its HELLO, TLS included
    SessionLimits sessions;
    bool busy_spin = false;  // nobody who waits for the sockets sleeps: for a core to spare
};

class Listener {
 public:
    // Throws the system's error when the address cannot be had.
    Listener(const std::string& host, std::uint16_t port, ListenerLimits limits, std::shared_ptr<Tls> tls = nullptr);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    std::uint16_t port() const { return port_; }
    const Traffic& traffic() const { return sessions_.traffic(); }
    EventBox& inbox() { return inbox_; }
    Loop<EventBox>& loop() { return loop_; }
    const SlabPool& pool() const { return *pool_; }
    // A WELCOME; from here on the connection may open sessions, and resume those that `identity` opened.
    bool welcome(std::uint64_t connection, Frame frame, std::string identity);
    bool send(std::uint64_t number, Frame frame);  // false when that connection or session is gone
    const ServerSessions& sessions() const { return sessions_; }
    // The smoothed round trip of the connection by which that session was heard last; none: not known, or no session.
    std::optional<double> rtt_ms(std::uint64_t session) const;
    void set_tls(std::shared_ptr<Tls> tls);  // for connections to come
    void disconnect(std::uint64_t number);   // a connection, once everything queued has left; forgets a session
    void close();

 private:
    void accept();
    void accept_later();
    bool make_room(const std::string& address);
    void admit(asio::ip::tcp::socket socket, const std::string& address);
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

}  // namespace edgespec::net
