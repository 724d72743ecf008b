// The edge's connection to a server: an I/O thread, a link, an inbox.
#pragma once

#include <memory>
#include <string>
#include <thread>

#include "net/dial.hpp"
#include "net/link.hpp"
#include "net/loop.hpp"

namespace edgespec::net {

// The connection could not be made, or is gone; the text says why.
struct Disconnection : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Connection {
 public:
    // Connects, or throws Disconnection within `timeout`. `slabs` bounds what may wait to be read or is still viewed.
    Connection(const std::string& host, std::uint16_t port, std::chrono::milliseconds timeout, LinkLimits limits,
               std::size_t slabs, std::shared_ptr<Tls> tls = nullptr, bool busy_spin = false);
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    void send(Frame frame);  // never blocks; throws Disconnection when the connection is gone
    Inbox<Received>& inbox() { return inbox_; }
    Loop<Received>& loop() { return loop_; }
    void close();  // what is queued may leave; does not wait for it
    void end();    // closes, and waits until the I/O thread is gone
    bool dead() const { return dead_; }
    std::string reason() const;
    const Counters& counters() const { return *link_->counters; }
    const SlabPool& pool() const { return *pool_; }

 private:
    asio::io_context io_;
    std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_;
    std::shared_ptr<SlabPool> pool_;
    std::shared_ptr<Link> link_;
    Inbox<Received> inbox_;
    std::atomic<bool> dead_{false};
    std::atomic<bool> closed_{false};
    mutable std::mutex mutex_;
    std::string reason_;
    Loop<Received> loop_{io_, inbox_};
};

}  // namespace edgespec::net
