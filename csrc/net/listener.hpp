// The server's listening socket and all of its connections: one I/O thread, one inbox of events.
#pragma once

#include <memory>
#include <string>
#include <thread>
#include <unordered_map>
#include <variant>

#include "net/inbox.hpp"
#include "net/link.hpp"

namespace edgespec::net {

struct Connected {};
struct Disconnected {
    std::string reason;
};
struct Event {
    std::uint64_t connection = 0;
    std::variant<Connected, Disconnected, Received> what;
};

class Listener {
 public:
    // Throws the system's error when the address cannot be had.
    Listener(const std::string& host, std::uint16_t port, int backlog, LinkLimits limits, std::size_t slabs);
    ~Listener();
    Listener(const Listener&) = delete;
    Listener& operator=(const Listener&) = delete;

    std::uint16_t port() const { return port_; }
    Inbox<Event>& inbox() { return inbox_; }
    const SlabPool& pool() const { return *pool_; }
    bool send(std::uint64_t connection, Frame frame);  // false when that connection is gone
    void disconnect(std::uint64_t connection);         // once everything queued has left
    void close();

 private:
    struct Peer {
        std::shared_ptr<Link> link;
        std::unique_ptr<asio::steady_timer> handshake;
    };

    void accept();
    void accept_later();
    void admit(asio::ip::tcp::socket socket);
    void deliver(std::uint64_t number, Received&& received);
    void ended(std::uint64_t number, const std::string& reason);
    std::shared_ptr<Link> find(std::uint64_t number) const;

    asio::io_context io_;
    asio::executor_work_guard<asio::io_context::executor_type> work_;
    asio::ip::tcp::acceptor acceptor_;
    asio::steady_timer pause_;
    LinkLimits limits_;
    std::uint16_t port_ = 0;
    std::shared_ptr<SlabPool> pool_;
    Inbox<Event> inbox_;
    mutable std::mutex mutex_;  // guards peers_, which the caller's thread reads
    std::unordered_map<std::uint64_t, Peer> peers_;
    std::uint64_t next_ = 1;
    std::thread thread_;
};

}  // namespace edgespec::net
