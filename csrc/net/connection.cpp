#include "net/connection.hpp"

namespace edgespec::net {

namespace {

// Of a frame that comes before WELCOME.
constexpr std::size_t kFirstPayload = 64 * 1024;

// Tries each address of the host in turn, all within the time; runs the I/O context on this thread meanwhile.
asio::ip::tcp::socket connected(asio::io_context& io, const std::string& host, std::uint16_t port,
                                std::chrono::milliseconds timeout) {
    asio::ip::tcp::resolver resolver(io);
    asio::ip::tcp::socket socket(io);
    ErrorStatus error;
    const auto addresses = resolver.resolve(host, std::to_string(port), error);
    if (error) throw Disconnection("the host's name is not known: " + error.message());
    error = asio::error::timed_out;
    asio::async_connect(socket, addresses, [&](ErrorStatus status, const auto&) { error = status; });
    io.run_for(timeout);
    if (error) {
        socket.close();
        io.restart();
        io.run();
        throw Disconnection(error == asio::error::operation_aborted ? "no answer in time" : error.message());
    }
    io.restart();
    return socket;
}

}  // namespace

Connection::Connection(const std::string& host, std::uint16_t port, std::chrono::milliseconds timeout,
                       LinkLimits limits, std::size_t slabs)
    : io_(1), pool_(std::make_shared<SlabPool>(slabs)) {
    auto socket = connected(io_, host, port, timeout);
    work_.emplace(io_.get_executor());
    link_ = std::make_shared<Link>(io_, tcp_transport(std::move(socket)), pool_, limits);
    link_->set_max_payload(kFirstPayload);
    asio::post(io_, [this] {
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
    thread_ = std::thread([this] { io_.run(); });
}

Connection::~Connection() { end(); }

void Connection::end() {
    close();
    if (thread_.joinable()) thread_.join();
}

void Connection::send(Frame frame) {
    if (dead_) throw Disconnection(reason());
    if (closed_) throw Disconnection("the connection is closed");
    asio::post(io_, [link = link_, frame = std::move(frame)]() mutable { link->send(std::move(frame)); });
}

void Connection::close() {
    if (closed_.exchange(true)) return;
    asio::post(io_, [link = link_] { link->finish(); });
    work_.reset();
}

std::string Connection::reason() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return reason_;
}

}  // namespace edgespec::net
