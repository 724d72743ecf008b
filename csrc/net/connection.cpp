#include "net/connection.hpp"

namespace edgespec::net {

namespace {

// Runs the I/O context on this thread until the server has answered, or not.
std::unique_ptr<Transport> called(asio::io_context& io, const Address& address, std::chrono::milliseconds timeout,
                                  std::shared_ptr<Tls> tls) {
    std::unique_ptr<Transport> made;
    std::string reason;
    std::make_shared<Dial>(io, std::move(tls))->start(address, timeout, [&](auto transport, const auto& why) {
        made = std::move(transport);
        reason = why;
    });
    io.run();
    io.restart();
    if (!made) throw Disconnection(reason);
    return made;
}

}  // namespace

Connection::Connection(const std::string& host, std::uint16_t port, std::chrono::milliseconds timeout,
                       LinkLimits limits, std::size_t slabs, std::shared_ptr<Tls> tls, bool busy_spin)
    : io_(1), pool_(std::make_shared<SlabPool>(slabs)) {
    auto transport = called(io_, {host, port}, timeout, std::move(tls));
    work_.emplace(io_.get_executor());
    link_ = std::make_shared<Link>(io_, std::move(transport), pool_, limits);
    link_->set_max_payload(kFirstPayload);
    loop_.run([this] {
        link_->start(
            [this](Received&& received) {
                const auto* welcome = std::get_if<wire::Welcome>(&received.message);
                if (welcome) link_->set_max_payload(agreed_payload(*welcome));
                inbox_.push(std::move(received));
            },
            [this](const std::string& reason) {
                {
                    const std::lock_guard<std::mutex> lock(mutex_);
                    reason_ = reason;
                }
                dead_ = true;
                inbox_.close();
            });
    });
    loop_.start(busy_spin);
}

Connection::~Connection() { end(); }

void Connection::end() {
    close();
    if (loop_.joinable()) loop_.join();
}

void Connection::send(Frame frame) {
    if (dead_) throw Disconnection(reason());
    if (closed_) throw Disconnection("the connection is closed");
    loop_.run([link = link_, frame = std::move(frame)]() mutable { link->send(std::move(frame)); });
}

void Connection::close() {
    if (closed_.exchange(true)) return;
    loop_.run([link = link_] { link->finish(); });
    work_.reset();
}

std::string Connection::reason() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return reason_;
}

}  // namespace edgespec::net
