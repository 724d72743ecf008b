#include "net/dial.hpp"

#include <mutex>
#include <thread>

namespace edgespec::net {

// What looks up a name reports to; no I/O context any more: to nobody.
struct Dial::NameLookup {
    std::mutex mutex;
    asio::io_context* io;

    explicit NameLookup(asio::io_context& context) : io(&context) {}
    void abandon() {
        const std::lock_guard<std::mutex> lock(mutex);
        io = nullptr;
    }
};

Dial::Dial(asio::io_context& io, std::shared_ptr<Tls> tls)
    : socket_(io), timer_(io), tls_(std::move(tls)), lookup_(std::make_shared<NameLookup>(io)) {}

Dial::~Dial() { lookup_->abandon(); }

void Dial::start(const Address& address, std::chrono::milliseconds within, Done done) {
    done_ = std::move(done);
    address_ = address;
    timer_.expires_after(within);
    timer_.async_wait([self = shared_from_this()](ErrorStatus error) {
        if (!error) self->finish(nullptr, "no answer in time");
    });
    ErrorStatus is_name;
    const auto numeric = asio::ip::make_address(address.host, is_name);
    is_name ? look_up() : connect({{numeric, address.port}});
}

void Dial::cancel() {
    done_ = nullptr;
    lookup_->abandon();
    timer_.cancel();
    ErrorStatus ignored;
    socket_.close(ignored);
    if (transport_) transport_->close();
}

// On a thread of its own: the system's resolver cannot be interrupted, and nobody is to wait for it longer than
// agreed.
void Dial::look_up() {
    std::thread([lookup = lookup_, address = address_, weak = weak_from_this()] {
        asio::io_context here;
        ErrorStatus error;
        Endpoints endpoints;
        for (const auto& found :
             asio::ip::tcp::resolver(here).resolve(address.host, std::to_string(address.port), error))
            endpoints.push_back(found.endpoint());
        const std::lock_guard<std::mutex> lock(lookup->mutex);
        if (lookup->io == nullptr) return;
        asio::post(*lookup->io, [weak, endpoints, error] {
            const auto self = weak.lock();
            if (!self || !self->done_) return;
            if (!error) return self->connect(endpoints);
            self->finish(nullptr, "the host's name is not known: " + error.message());
        });
    }).detach();
}

void Dial::connect(const Endpoints& endpoints) {
    asio::async_connect(socket_, endpoints, [self = shared_from_this()](ErrorStatus error, const auto&) {
        if (!self->done_) return;
        if (error) return self->finish(nullptr, error.message());
        self->begin();
    });
}

void Dial::begin() {
    const std::string& name = address_.tls_name.empty() ? address_.host : address_.tls_name;
    transport_ = tls_ ? tls_->transport(std::move(socket_), name, address_.port) : tcp_transport(std::move(socket_));
    transport_->begin([self = shared_from_this()](const std::string& reason) {
        if (!self->done_) return;
        auto transport = std::move(self->transport_);
        if (reason.empty()) return self->finish(std::move(transport), {});
        self->finish(nullptr, reason);
    });
}

void Dial::finish(std::unique_ptr<Transport> transport, const std::string& reason) {
    if (!done_) return;
    const auto done = std::move(done_);
    cancel();
    done(std::move(transport), reason);
}

}  // namespace edgespec::net
