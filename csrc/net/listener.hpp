// The server's listening socket, its connections and the sessions on them: one I/O thread, one inbox of events.
//
// Connections and sessions are numbered together; an event bears the number of what it is about. When a session without
// connections ends is decided by the caller.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "net/address.hpp"
#include "net/counters.hpp"
#include "net/event.hpp"
#include "net/frame.hpp"
#include "net/limits.hpp"
#include "net/slab.hpp"
#include "net/strangers.hpp"
#include "net/tls.hpp"

namespace edgespec::net {

struct ListenerLimits {
    LinkLimits link;
    int backlog = 128;
    std::size_t slabs = 4096;
    std::size_t connections = 2048;
    std::size_t connections_of_address = 512;  // of IPv6: of a network (network.hpp)
    StrangerLimits strangers;
    ShareLimits device;
    std::chrono::milliseconds hello_within{5000};  // from a connection's beginning to its HELLO, TLS included
    SessionLimits sessions;
    bool busy_spin = false;  // nobody who waits for the sockets sleeps: for a core to spare
};

class Listener {
 public:
    Listener() = default;
    virtual ~Listener() = default;
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    virtual std::uint16_t port() const = 0;
    virtual const Traffic& traffic() const = 0;
    virtual const SlabPool& pool() const = 0;
    virtual EventBox& inbox() = 0;
    // As the inbox's, doing the I/O meanwhile.
    virtual bool wait_until(Clock::time_point deadline) = 0;
    virtual void wake() = 0;  // one wait, now or next: it returns with nothing
    // A WELCOME; from here on the connection may open sessions, and resume those that `identity` opened.
    virtual bool welcome(std::uint64_t connection, Frame frame, std::string identity) = 0;
    virtual bool send(std::uint64_t number, Frame frame) = 0;  // false when that connection or session is gone
    // As it was given when the connection that opened the session was welcomed; none: there is no such session.
    virtual std::optional<std::string> identity(std::uint64_t session) const = 0;
    // The smoothed round trip of the connection by which that session was heard last; none: not known, or no session.
    virtual std::optional<double> rtt_ms(std::uint64_t session) const = 0;
    virtual void set_tls(std::shared_ptr<Tls> tls) = 0;  // for connections to come
    // A connection, once everything queued has left; forgets a session.
    virtual void disconnect(std::uint64_t number) = 0;
    virtual void close() = 0;
};

// Throws Disconnection when the address cannot be had.
std::unique_ptr<Listener> listen(const std::string& host, std::uint16_t port, ListenerLimits limits,
                                 std::shared_ptr<Tls> tls = nullptr);

}  // namespace edgespec::net
