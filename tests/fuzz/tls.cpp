// Fuzzes TLS as the link uses it: a peer by OpenSSL shakes hands with a transport of ours, and the input says which of
// its bytes are changed, cut or sent twice, and what it says behind the handshake. Nothing crashes, a handshake of
// which nothing was changed succeeds, and the transport always hears its end.
#include "net/tls.hpp"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>

#include "../cpp/check.hpp"
#include "net/transport.hpp"

using namespace edgespec;
namespace asio = net::asio;

namespace {

constexpr int kRounds = 6;  // of flights, more than any handshake has
constexpr std::size_t kMostBytes = 2048;

struct Ends {
    std::shared_ptr<net::Tls> server, client;
    SSL_CTX *hostile_server, *hostile_client;
};

// A certificate for localhost that is its own authority, in a file with its key.
std::string certificate_file() {
    EVP_PKEY* key = EVP_EC_gen("P-256");
    X509* certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 365L * 24 * 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME* name = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("localhost"), -1, -1,
                               0);
    X509_set_issuer_name(certificate, name);
    X509_sign(certificate, key, EVP_sha256());
    char path[] = "/tmp/edgespec-fuzz-XXXXXX";
    const int file = ::mkstemp(path);
    CHECK(file >= 0);
    FILE* out = ::fdopen(file, "w");
    PEM_write_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
    PEM_write_X509(out, certificate);
    ::fclose(out);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return path;
}

const Ends& ends() {
    static const Ends made = [] {
        const std::string file = certificate_file();
        SSL_CTX* server = SSL_CTX_new(TLS_server_method());
        CHECK(SSL_CTX_use_certificate_chain_file(server, file.c_str()) == 1);
        CHECK(SSL_CTX_use_PrivateKey_file(server, file.c_str(), SSL_FILETYPE_PEM) == 1);
        Ends ends{net::tls_server(file, file, ""), net::tls_client(file, "", ""), server,
                  SSL_CTX_new(TLS_client_method())};
        ::unlink(file.c_str());
        return ends;
    }();
    return made;
}

// The input, read from its front; zeros behind its end.
struct Program {
    const std::uint8_t* data;
    std::size_t bytes;

    std::uint8_t next() {
        if (bytes == 0) return 0;
        --bytes;
        return *data++;
    }
};

// Four bytes are a change: what, where in the flight (of 65536 parts of it), and a value. Zeros change nothing.
bool change(std::vector<std::uint8_t>& flight, Program& program) {
    const int what = program.next() % 6;
    const std::size_t high = program.next(), place = 256 * high + program.next();
    const std::uint8_t value = program.next();
    if (what == 0 || flight.empty()) return false;
    const auto at = flight.begin() + static_cast<std::ptrdiff_t>(place * flight.size() / 65536);
    if (what == 1) *at ^= static_cast<std::uint8_t>(1u << value % 8);
    if (what == 2) *at ^= value;
    if (what == 3) flight.erase(at, flight.end());
    if (what == 4) flight.insert(at, value, value);
    if (what == 5) {
        const std::vector<std::uint8_t> again(at, flight.end());
        flight.insert(flight.end(), again.begin(), again.end());
    }
    return what != 2 || value != 0;
}

// The peer: OpenSSL over memory, its bytes carried by hand to a socket whose other end is our transport's.
class Peer {
 public:
    Peer(SSL_CTX* context, bool server, int socket) : ssl_(SSL_new(context)), socket_(socket) {
        SSL_set_bio(ssl_, BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        server ? SSL_set_accept_state(ssl_) : SSL_set_connect_state(ssl_);
    }

    ~Peer() {
        SSL_free(ssl_);
        ::close(socket_);
    }

    bool shake_hands() { return SSL_do_handshake(ssl_) == 1; }

    void say(const std::uint8_t* data, std::size_t bytes) { SSL_write(ssl_, data, static_cast<int>(bytes)); }

    void hear() {
        std::uint8_t room[4096];
        ssize_t bytes = 0;
        while ((bytes = ::recv(socket_, room, sizeof room, MSG_DONTWAIT)) > 0) {
            BIO_write(SSL_get_rbio(ssl_), room, static_cast<int>(bytes));
        }
    }

    // Whether it was sent as it was.
    bool send(Program& program) {
        std::vector<std::uint8_t> flight(static_cast<std::size_t>(BIO_pending(SSL_get_wbio(ssl_))));
        if (flight.empty()) return true;
        BIO_read(SSL_get_wbio(ssl_), flight.data(), static_cast<int>(flight.size()));
        const bool changed = change(flight, program);
        [[maybe_unused]] const auto sent = ::send(socket_, flight.data(), flight.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        return !changed;
    }

    void end() { ::shutdown(socket_, SHUT_RDWR); }

 private:
    SSL* const ssl_;
    const int socket_;
};

void run_all(asio::io_context& io) {
    io.restart();
    io.poll();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    if (bytes == 0 || bytes > kMostBytes) return 0;
    Program program{data + 1, bytes - 1};
    const bool serves = data[0] % 2 == 0;
    asio::io_context io;
    int sockets[2];
    CHECK(::socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
    asio::ip::tcp::socket socket(io);
    socket.assign(asio::ip::tcp::v4(), sockets[0]);
    const auto transport = (serves ? ends().server : ends().client)->transport(std::move(socket), "localhost", 1);
    Peer peer(serves ? ends().hostile_client : ends().hostile_server, !serves, sockets[1]);
    bool begun = false, ended = false, whole = true;
    transport->begin([&](const std::string& reason) { (reason.empty() ? begun : ended) = true; });
    for (int round = 0; round < kRounds; ++round) {
        peer.shake_hands();
        whole = peer.send(program) && whole;
        run_all(io);
        peer.hear();
    }
    CHECK(begun || !whole);
    std::uint8_t room[512];
    std::function<void()> read = [&] {
        transport->read_some(room, sizeof room, [&](net::ErrorStatus error, std::size_t) {
            if (error)
                ended = true;
            else
                read();
        });
    };
    if (begun && !ended) {
        read();
        peer.say(program.data, program.bytes);
        Program rest = program;
        peer.send(rest);
        run_all(io);
    }
    peer.end();
    run_all(io);
    transport->close();
    for (int i = 0; i < 4; ++i) run_all(io);
    CHECK(ended);
    return 0;
}
