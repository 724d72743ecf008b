// TLS 1.3 by the system's OpenSSL, for both ends. A build without OpenSSL's headers has none: kHaveTls is false, and
// asking for it throws.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>

namespace edgespec::net {

class Transport;
struct Socket;

extern const bool kHaveTls;

// TLS cannot be had like this; the text says why.
struct TlsError : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// One end's certificates. Makes encrypted transports of connected sockets; those keep it alive. Thread-safe.
class Tls {
 public:
    virtual ~Tls() = default;

    // `host` and `port`: whom the edge calls; the server's certificate must be for that name. A server gives neither.
    virtual std::unique_ptr<Transport> transport(Socket socket, const std::string& host, std::uint16_t port) = 0;

    std::atomic<std::uint64_t> handshakes{0};  // completed
    std::atomic<std::uint64_t> resumed{0};     // of these, those that went on from an earlier one
};

// PEM files; an empty name is none. The edge trusts what `authority` has signed and nothing else; with a
// certificate of its own it can show who it is. Throws TlsError.
std::shared_ptr<Tls> tls_client(const std::string& authority, const std::string& certificate, const std::string& key);

// With an authority, only edges with a certificate that it has signed come in. Throws TlsError.
std::shared_ptr<Tls> tls_server(const std::string& certificate, const std::string& key, const std::string& authority);

}  // namespace edgespec::net
