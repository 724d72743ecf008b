// Calls a server: name, connection, and whatever the transport needs before frames may pass. Asynchronous, within a
// time.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "net/address.hpp"
#include "net/tls.hpp"
#include "net/transport.hpp"

namespace edgespec::net {

class Dial : public std::enable_shared_from_this<Dial> {
 public:
    // A transport, or none and the reason.
    using Done = std::function<void(std::unique_ptr<Transport>, const std::string& reason)>;

    // No `tls`: bytes pass as they are.
    explicit Dial(asio::io_context& io, std::shared_ptr<Tls> tls = nullptr);
    ~Dial();

    // Calls `done` once, later, on the I/O thread; never after `cancel`.
    void start(const Address& address, std::chrono::milliseconds within, Done done);
    void cancel();

 private:
    using Endpoints = std::vector<asio::ip::tcp::endpoint>;
    struct NameLookup;

    void look_up();
    void connect(const Endpoints& endpoints);
    void begin();
    void finish(std::unique_ptr<Transport> transport, const std::string& reason);

    asio::ip::tcp::socket socket_;
    asio::steady_timer timer_;
    const std::shared_ptr<Tls> tls_;
    const std::shared_ptr<NameLookup> lookup_;
    Address address_;
    std::unique_ptr<Transport> transport_;
    Done done_;
};

}  // namespace edgespec::net
