// What a link needs of a byte stream. There is TCP, and TLS over it (tls.hpp); QUIC would stand beside them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "net/asio.hpp"

namespace edgespec::net {

class Transport {
 public:
    using Done = std::function<void(ErrorStatus, std::size_t)>;

    using Begun = std::function<void(const std::string& reason)>;

    virtual ~Transport() = default;
    // Whatever must be agreed before bytes may pass; no reason: it is. Once it is, calling again does nothing.
    virtual void begin(Begun done) = 0;
    virtual void read_some(std::uint8_t* data, std::size_t bytes, Done done) = 0;
    // `buffers` view what must live until `done` is called, which may be at once, unless it failed.
    virtual void write(const std::vector<asio::const_buffer>& buffers, Done done) = 0;
    // No more will be written: the peer reads what was, then the end. Reading goes on.
    virtual void shut_down() = 0;
    virtual void close() = 0;
    // What the socket has while nobody reads from it.
    struct Pending {
        bool bytes = true;
        bool end = false;  // behind the bytes, if any
    };
    virtual Pending pending() const { return {}; }
    // Who the peer has proven to be; empty: nobody in particular.
    virtual std::string peer_name() const { return {}; }
};

// What every socket of ours is told: send at once, notice a stalled link, retransmit soon where the kernel can.
void prepare(asio::ip::tcp::socket& socket);

Transport::Pending pending_of(int socket);

std::unique_ptr<Transport> tcp_transport(asio::ip::tcp::socket socket);

}  // namespace edgespec::net
