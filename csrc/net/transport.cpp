#include "net/transport.hpp"

#include <netinet/tcp.h>

namespace edgespec::net {

namespace {

constexpr unsigned kUserTimeoutMs = 10'000;
constexpr unsigned kLeastRetransmitUs = 40'000;  // the kernel's own 200 ms is most of what a lost packet costs
constexpr int kTcpRtoMinUs = 45;                 // TCP_RTO_MIN_US, since Linux 6.15; headers are older

class TcpTransport final : public Transport {
 public:
    explicit TcpTransport(asio::ip::tcp::socket socket) : socket_(std::move(socket)) { prepare(socket_); }

    void begin(Begun done) override { done({}); }

    void read_some(std::uint8_t* data, std::size_t bytes, Done done) override {
        socket_.async_read_some(asio::buffer(data, bytes), std::move(done));
    }

    void write(const std::vector<asio::const_buffer>& buffers, Done done) override {
        asio::async_write(socket_, buffers, std::move(done));
    }

    void shut_down() override {
        ErrorStatus ignored;
        socket_.shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
    }

    void close() override {
        ErrorStatus ignored;
        socket_.shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
        socket_.close(ignored);
    }

 private:
    asio::ip::tcp::socket socket_;
};

}  // namespace

void prepare(asio::ip::tcp::socket& socket) {
    ErrorStatus ignored;
    socket.set_option(asio::ip::tcp::no_delay(true), ignored);
    const auto handle = socket.native_handle();
    ::setsockopt(handle, IPPROTO_TCP, TCP_USER_TIMEOUT, &kUserTimeoutMs, sizeof kUserTimeoutMs);
    ::setsockopt(handle, IPPROTO_TCP, kTcpRtoMinUs, &kLeastRetransmitUs, sizeof kLeastRetransmitUs);
}

std::unique_ptr<Transport> tcp_transport(asio::ip::tcp::socket socket) {
    return std::make_unique<TcpTransport>(std::move(socket));
}

}  // namespace edgespec::net
