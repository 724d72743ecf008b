#include "net/transport.hpp"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>

#include <algorithm>

namespace edgespec::net {

namespace {

constexpr unsigned kUserTimeoutMs = 10'000;
constexpr unsigned kLeastRetransmitUs = 40'000;  // the kernel's own 200 ms is most of what a lost packet costs
constexpr int kTcpRtoMinUs = 45;                 // TCP_RTO_MIN_US, since Linux 6.15; headers are older

class TcpTransport final : public Transport {
 public:
    explicit TcpTransport(asio::ip::tcp::socket socket) : socket_(std::move(socket)) {
        prepare(socket_);
        ErrorStatus ignored;
        socket_.non_blocking(true, ignored);
    }

    void begin(Begun done) override { done({}); }

    void read_some(std::uint8_t* data, std::size_t bytes, Done done) override {
        socket_.async_read_some(asio::buffer(data, bytes), std::move(done));
    }

    void write(const std::vector<asio::const_buffer>& buffers, Done done) override {
        ErrorStatus error;
        std::size_t sent = buffers.size() == 1 ? socket_.send(asio::buffer(buffers.front()), 0, error)
                                               : socket_.send(buffers, 0, error);
        if (!error && sent == asio::buffer_size(buffers)) return done({}, sent);
        std::vector<asio::const_buffer> rest(buffers);
        auto first = rest.begin();
        for (std::size_t left = sent; first != rest.end();) {
            const std::size_t of_it = std::min(left, first->size());
            *first += of_it;
            left -= of_it;
            if (first->size() != 0) break;
            ++first;
        }
        rest.erase(rest.begin(), first);
        asio::async_write(socket_, rest, [sent, done = std::move(done)](ErrorStatus later, std::size_t bytes) {
            done(later, sent + bytes);
        });
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

    Pending pending() const override { return pending_of(const_cast<asio::ip::tcp::socket&>(socket_).native_handle()); }

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

Transport::Pending pending_of(int socket) {
    pollfd asked{socket, POLLIN | POLLRDHUP, 0};
    int bytes = 0;
    if (::poll(&asked, 1, 0) < 0 || ::ioctl(socket, FIONREAD, &bytes) < 0) return {false, true};
    return {bytes > 0, (asked.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0};
}

std::unique_ptr<Transport> tcp_transport(asio::ip::tcp::socket socket) {
    return std::make_unique<TcpTransport>(std::move(socket));
}

}  // namespace edgespec::net
