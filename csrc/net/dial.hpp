// Calls a server: name, connection, and whatever the transport needs before frames may pass. Asynchronous, within a
// time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/transport.hpp"

namespace edgespec::net {

struct Address {
    std::string host;
    std::uint16_t port = 0;
};

class Dial : public std::enable_shared_from_this<Dial> {
 public:
    // A transport, or none and the reason.
    using Done = std::function<void(std::unique_ptr<Transport>, const std::string& reason)>;

    explicit Dial(asio::io_context& io) : resolver_(io), socket_(io), timer_(io) {}

    // Calls `done` once, later, on the I/O thread; never after `cancel`.
    void start(const Address& address, std::chrono::milliseconds within, Done done);
    void cancel();

 private:
    void connect(const asio::ip::tcp::resolver::results_type& addresses);
    void finish(std::unique_ptr<Transport> transport, const std::string& reason);

    asio::ip::tcp::resolver resolver_;
    asio::ip::tcp::socket socket_;
    asio::steady_timer timer_;
    Done done_;
};

}  // namespace edgespec::net
