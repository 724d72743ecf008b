// What a link needs of a byte stream. TCP is the one there is; TLS and QUIC would stand beside it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "net/asio.hpp"

namespace edgespec::net {

class Transport {
 public:
    using Done = std::function<void(ErrorStatus, std::size_t)>;

    virtual ~Transport() = default;
    virtual void read_some(std::uint8_t* data, std::size_t bytes, Done done) = 0;
    // `buffers` and what they view must live until `done` is called.
    virtual void write(const std::vector<asio::const_buffer>& buffers, Done done) = 0;
    // No more will be written: the peer reads what was, then the end. Reading goes on.
    virtual void shut_down() = 0;
    virtual void close() = 0;
};

std::unique_ptr<Transport> tcp_transport(asio::ip::tcp::socket socket);

}  // namespace edgespec::net
