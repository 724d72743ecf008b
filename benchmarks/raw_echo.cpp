// The floor that benchmarks/wire.py compares with: 64 bytes to and fro over TCP and epoll, both ends in C++.
// Usage: raw_echo serve | raw_echo call PORT COUNT. `call` prints each round trip in nanoseconds. With `spin` after
// that neither end sleeps: both ask the socket again and again.
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr std::size_t kBytes = 64;

void check(bool holds, const char* what) {
    if (holds) return;
    std::perror(what);
    std::exit(1);
}

struct Stream {
    Stream(int socket_given, bool spins_given)
        : socket(socket_given), epoll(::epoll_create1(0)), spins(spins_given) {
        const int one = 1;
        ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_event event{};
        event.events = EPOLLIN;
        check(::epoll_ctl(epoll, EPOLL_CTL_ADD, socket, &event) == 0, "epoll_ctl");
    }

    bool receive(char* bytes) const {
        for (std::size_t have = 0; have < kBytes;) {
            epoll_event event;
            if (!spins && ::epoll_wait(epoll, &event, 1, -1) < 1) continue;
            const ssize_t more = ::recv(socket, bytes + have, kBytes - have, MSG_DONTWAIT);
            if (more < 0 && errno == EAGAIN) continue;
            if (more <= 0) return false;
            have += static_cast<std::size_t>(more);
        }
        return true;
    }

    void send(const char* bytes) const { check(::send(socket, bytes, kBytes, 0) == kBytes, "send"); }

    int socket, epoll;
    bool spins;
};

void serve(int listener, sockaddr_in address, bool spins) {
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    check(::bind(listener, generic, size) == 0 && ::listen(listener, 1) == 0, "listen");
    ::getsockname(listener, generic, &size);
    std::printf("%d\n", ntohs(address.sin_port));
    std::fflush(stdout);
    const Stream stream(::accept(listener, nullptr, nullptr), spins);
    char bytes[kBytes];
    while (stream.receive(bytes)) stream.send(bytes);
}

void call(int socket, const sockaddr_in& address, int count, bool spins) {
    check(::connect(socket, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0, "connect");
    const Stream stream(socket, spins);
    char bytes[kBytes] = {};
    for (int i = 0; i < count; ++i) {
        const auto start = std::chrono::steady_clock::now();
        stream.send(bytes);
        check(stream.receive(bytes), "receive");
        const auto took = std::chrono::nanoseconds(std::chrono::steady_clock::now() - start);
        std::printf("%ld\n", static_cast<long>(took.count()));  // into a buffer: nobody waits for it
    }
}

}  // namespace

int main(int count, char** arguments) {
    const bool spins = std::strcmp(arguments[count - 1], "spin") == 0;
    const bool calls = count - spins == 4;
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(static_cast<std::uint16_t>(calls ? std::atoi(arguments[2]) : 0));
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    calls ? call(socket, address, std::atoi(arguments[3]), spins) : serve(socket, address, spins);
}
