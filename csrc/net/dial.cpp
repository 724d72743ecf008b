#include "net/dial.hpp"

namespace edgespec::net {

void Dial::start(const Address& address, std::chrono::milliseconds within, Done done) {
    done_ = std::move(done);
    timer_.expires_after(within);
    timer_.async_wait([self = shared_from_this()](ErrorStatus error) {
        if (!error) self->finish(nullptr, "no answer in time");
    });
    resolver_.async_resolve(address.host, std::to_string(address.port),
                            [self = shared_from_this()](ErrorStatus error, const auto& addresses) {
                                if (!self->done_) return;
                                if (!error) return self->connect(addresses);
                                self->finish(nullptr, "the host's name is not known: " + error.message());
                            });
}

void Dial::cancel() {
    done_ = nullptr;
    resolver_.cancel();
    timer_.cancel();
    ErrorStatus ignored;
    socket_.close(ignored);
}

void Dial::connect(const asio::ip::tcp::resolver::results_type& addresses) {
    asio::async_connect(socket_, addresses, [self = shared_from_this()](ErrorStatus error, const auto&) {
        if (!self->done_) return;
        if (error) return self->finish(nullptr, error.message());
        self->finish(tcp_transport(std::move(self->socket_)), {});
    });
}

void Dial::finish(std::unique_ptr<Transport> transport, const std::string& reason) {
    if (!done_) return;
    const auto done = std::move(done_);
    cancel();
    done(std::move(transport), reason);
}

}  // namespace edgespec::net
