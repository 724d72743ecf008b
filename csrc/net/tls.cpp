#include "net/tls.hpp"

#ifndef EDGESPEC_TLS

namespace edgespec::net {

const bool kHaveTls = false;

static std::shared_ptr<Tls> none() {
    throw TlsError("this build of edgespec has no TLS: install OpenSSL's headers (libssl-dev), then edgespec again");
}

std::shared_ptr<Tls> tls_client(const std::string&, const std::string&, const std::string&) { return none(); }
std::shared_ptr<Tls> tls_server(const std::string&, const std::string&, const std::string&) { return none(); }

}  // namespace edgespec::net

#else

#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <map>
#include <mutex>

#include "net/transport.hpp"

#include EDGESPEC_ASIO(ssl.hpp)

namespace edgespec::net {

const bool kHaveTls = true;

namespace {

using Session = std::unique_ptr<SSL_SESSION, decltype(&SSL_SESSION_free)>;

// Handshakes of one end that can be resumed, by the peer's name. Only the edge keeps any; a server's are in its
// tickets.
class Sessions {
 public:
    void keep(const std::string& peer, SSL_SESSION* session) {
        const std::lock_guard<std::mutex> lock(mutex_);
        sessions_.insert_or_assign(peer, Session(session, &SSL_SESSION_free));
    }

    void offer(const std::string& peer, SSL* ssl) const {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto kept = sessions_.find(peer);
        if (kept != sessions_.end()) SSL_set_session(ssl, kept->second.get());
    }

 private:
    mutable std::mutex mutex_;
    std::map<std::string, Session> sessions_;
};

class TlsTransport final : public Transport {
 public:
    using Side = asio::ssl::stream_base::handshake_type;

    TlsTransport(asio::ip::tcp::socket socket, asio::ssl::context& context, std::shared_ptr<Tls> tls, Side side)
        : tls_(std::move(tls)), stream_(std::make_shared<Stream>(std::move(socket), context)), side_(side) {
        prepare(stream_->next_layer());
        SSL_set_ex_data(ssl(), index(), this);
    }

    // To free a session whose end was not said marks it as one that cannot be resumed. An edge that vanishes in a
    // tunnel is to resume all the same.
    ~TlsTransport() override {
        SSL_set_ex_data(ssl(), index(), nullptr);
        SSL_set_shutdown(ssl(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
    }

    // The transport is asked to keep this session; false: there is none any more.
    static bool keep(const SSL* ssl, SSL_SESSION* session) {
        const auto* transport = static_cast<TlsTransport*>(SSL_get_ex_data(ssl, index()));
        if (transport != nullptr) transport->sessions_->keep(transport->peer_, session);
        return transport != nullptr;
    }

    void call(const std::string& host, const std::string& peer, std::shared_ptr<Sessions> sessions) {
        peer_ = peer;
        sessions_ = std::move(sessions);
        ErrorStatus no_address;
        asio::ip::make_address(host, no_address);
        SSL_set_hostflags(ssl(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (no_address) {
            SSL_set_tlsext_host_name(ssl(), host.c_str());
            SSL_set1_host(ssl(), host.c_str());
        } else {
            X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl()), host.c_str());
        }
        sessions_->offer(peer_, ssl());
    }

    void begin(Begun done) override {
        if (established_) return done({});
        stream_->async_handshake(side_, [this, done = std::move(done)](ErrorStatus error) {
            if (error) return done(explain(error));
            established_ = true;
            ++tls_->handshakes;
            if (SSL_session_reused(ssl())) ++tls_->resumed;
            done({});
        });
    }

    void read_some(std::uint8_t* data, std::size_t bytes, Done done) override {
        stream_->async_read_some(asio::buffer(data, bytes), [done = std::move(done)](ErrorStatus error, std::size_t n) {
            const bool cut = error == asio::ssl::error::stream_truncated;
            done(cut ? ErrorStatus(asio::error::eof) : error, n);
        });
    }

    void write(const std::vector<asio::const_buffer>& buffers, Done done) override {
        asio::async_write(*stream_, buffers, std::move(done));
    }

    void shut_down() override {
        if (!established_) return close();
        stream_->async_shutdown([stream = stream_](ErrorStatus) {
            ErrorStatus ignored;
            stream->next_layer().shutdown(asio::ip::tcp::socket::shutdown_send, ignored);
        });
    }

    void close() override {
        ErrorStatus ignored;
        socket().shutdown(asio::ip::tcp::socket::shutdown_both, ignored);
        socket().close(ignored);
    }

    Pending pending() const override { return pending_of(stream_->next_layer().native_handle()); }

    std::string peer_name() const override {
        const std::unique_ptr<X509, decltype(&X509_free)> certificate(SSL_get_peer_certificate(ssl()), &X509_free);
        if (!certificate) return {};
        char name[256];
        const int bytes =
            X509_NAME_get_text_by_NID(X509_get_subject_name(certificate.get()), NID_commonName, name, sizeof name);
        return bytes < 0 ? std::string() : std::string(name, static_cast<std::size_t>(bytes));
    }

 private:
    using Stream = asio::ssl::stream<asio::ip::tcp::socket>;

    static int index() {
        static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
        return index;
    }

    SSL* ssl() const { return stream_->native_handle(); }
    asio::ip::tcp::socket& socket() { return stream_->next_layer(); }

    std::string explain(ErrorStatus error) {
        const long verified = SSL_get_verify_result(ssl());
        const bool client = side_ == asio::ssl::stream_base::client;
        if (verified != X509_V_OK) {
            const std::string whose = client ? "the server's" : "the edge's";
            return whose + " certificate is not trusted: " + X509_verify_cert_error_string(verified);
        }
        if (error.category() != asio::error::get_ssl_category()) {
            return error == asio::error::eof || error == asio::ssl::error::stream_truncated
                       ? "the peer closed the connection while TLS was set up"
                       : error.message();
        }
        const int reason = ERR_GET_REASON(static_cast<unsigned long>(error.value()));
        if (reason == SSL_R_WRONG_VERSION_NUMBER) return "the peer does not speak TLS";
        return "TLS failed: " + error.message();
    }

    std::shared_ptr<Tls> tls_;  // the stream's context is its
    const std::shared_ptr<Stream> stream_;
    const Side side_;
    std::string peer_;
    std::shared_ptr<Sessions> sessions_;
    bool established_ = false;
};

// TLS 1.3 and nothing older, with the certificates of these files.
void set_up(asio::ssl::context& context, const std::string& certificate, const std::string& key,
            const std::string& authority) {
    SSL_CTX_set_min_proto_version(context.native_handle(), TLS1_3_VERSION);
    ErrorStatus error;
    context.set_password_callback([](std::size_t, auto) { return std::string(); }, error);  // never ask a terminal
    if (!certificate.empty()) {
        if (context.use_certificate_chain_file(certificate, error)) {
            throw TlsError("cannot use the certificate " + certificate + ": " + error.message());
        }
        if (context.use_private_key_file(key, asio::ssl::context::pem, error)) {
            throw TlsError("cannot use the key " + key + " with the certificate " + certificate + ": " +
                           error.message());
        }
    }
    if (!authority.empty() && context.load_verify_file(authority, error)) {
        throw TlsError("cannot use the authority's certificate " + authority + ": " + error.message());
    }
}

class TlsClient final : public Tls, public std::enable_shared_from_this<TlsClient> {
 public:
    TlsClient(const std::string& authority, const std::string& certificate, const std::string& key)
        : context_(asio::ssl::context::tls_client) {
        set_up(context_, certificate, key, authority);
        SSL_CTX_set_verify(context_.native_handle(), SSL_VERIFY_PEER, nullptr);
        SSL_CTX_set_session_cache_mode(context_.native_handle(),
                                       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL_STORE);
        SSL_CTX_sess_set_new_cb(context_.native_handle(), [](SSL* ssl, SSL_SESSION* session) {
            return TlsTransport::keep(ssl, session) ? 1 : 0;  // 1: it is ours now
        });
    }

    std::unique_ptr<Transport> transport(Socket socket, const std::string& host, std::uint16_t port) override {
        auto transport = std::make_unique<TlsTransport>(std::move(socket), context_, shared_from_this(),
                                                        asio::ssl::stream_base::client);
        transport->call(host, host + ":" + std::to_string(port), sessions_);
        return transport;
    }

 private:
    asio::ssl::context context_;
    const std::shared_ptr<Sessions> sessions_ = std::make_shared<Sessions>();
};

class TlsServer final : public Tls, public std::enable_shared_from_this<TlsServer> {
 public:
    TlsServer(const std::string& certificate, const std::string& key, const std::string& authority)
        : context_(asio::ssl::context::tls_server) {
        set_up(context_, certificate, key, authority);
        SSL_CTX* context = context_.native_handle();
        SSL_CTX_set_timeout(context, kResumableForSeconds);
        static const unsigned char kWhat[] = "edgespec";
        SSL_CTX_set_session_id_context(context, kWhat, sizeof kWhat - 1);
        if (!authority.empty()) {
            SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
            SSL_CTX_set_client_CA_list(context, SSL_load_client_CA_file(authority.c_str()));
        }
    }

    std::unique_ptr<Transport> transport(Socket socket, const std::string&, std::uint16_t) override {
        renew_ticket_keys();
        return std::make_unique<TlsTransport>(std::move(socket), context_, shared_from_this(),
                                              asio::ssl::stream_base::server);
    }

 private:
    static constexpr long kResumableForSeconds = 24 * 3600;
    static constexpr std::chrono::hours kKeysFor{12};

    // Whoever learns a ticket key can read what it protected: none lives long. An edge whose ticket is older than the
    // key shakes hands in full.
    void renew_ticket_keys() {
        const std::lock_guard<std::mutex> lock(mutex_);
        const auto now = std::chrono::steady_clock::now();
        if (now - keys_made_ < kKeysFor) return;
        keys_made_ = now;
        std::vector<unsigned char> keys(
            static_cast<std::size_t>(SSL_CTX_get_tlsext_ticket_keys(context_.native_handle(), nullptr, 0)));
        RAND_bytes(keys.data(), static_cast<int>(keys.size()));
        SSL_CTX_set_tlsext_ticket_keys(context_.native_handle(), keys.data(), static_cast<long>(keys.size()));
        OPENSSL_cleanse(keys.data(), keys.size());
    }

    asio::ssl::context context_;
    std::mutex mutex_;
    std::chrono::steady_clock::time_point keys_made_ = std::chrono::steady_clock::now();  // OpenSSL makes the first
};

}  // namespace

std::shared_ptr<Tls> tls_client(const std::string& authority, const std::string& certificate, const std::string& key) {
    return std::make_shared<TlsClient>(authority, certificate, key);
}

std::shared_ptr<Tls> tls_server(const std::string& certificate, const std::string& key, const std::string& authority) {
    return std::make_shared<TlsServer>(certificate, key, authority);
}

}  // namespace edgespec::net

#endif
