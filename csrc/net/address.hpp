// Where a server is, and what is thrown when nothing can be had there.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

namespace edgespec::net {

struct Address {
    std::string host;
    std::uint16_t port = 0;
    std::string tls_name;  // that the certificate there must be for; empty: the host's

    bool operator==(const Address& other) const {
        return host == other.host && port == other.port && tls_name == other.tls_name;
    }
};

// A connection is closed or cannot be had; the text says why.
struct Disconnection : std::runtime_error {
    using std::runtime_error::runtime_error;
};

}  // namespace edgespec::net
