#include "net/transport.hpp"

#include <netinet/tcp.h>

namespace edgespec::net {

namespace {

class TcpTransport final : public Transport {
 public:
    explicit TcpTransport(asio::ip::tcp::socket socket) : socket_(std::move(socket)) {
        ErrorStatus ignored;
        socket_.set_option(asio::ip::tcp::no_delay(true), ignored);
        const unsigned user_timeout_ms = 10'000;
        ::setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_USER_TIMEOUT, &user_timeout_ms, sizeof user_timeout_ms);
    }

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

std::unique_ptr<Transport> tcp_transport(asio::ip::tcp::socket socket) {
    return std::make_unique<TcpTransport>(std::move(socket));
}

}  // namespace edgespec::net
