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
#include <vector>

namespace {

constexpr std::size_t kBytes = 64;

void check(bool holds, const char* what) {
    if (holds) return;
    std::perror(what);
    std::exit(1);
}

class Stream {
 public:
    Stream(int socket, bool spins) : socket_(socket), epoll_(::epoll_create1(0)), spins_(spins) {
        const int one = 1;
        ::setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        epoll_event event{};
        event.events = EPOLLIN;
        check(::epoll_ctl(epoll_, EPOLL_CTL_ADD, socket, &event) == 0, "epoll_ctl");
    }

    bool receive(char* bytes) {
        for (std::size_t have = 0; have < kBytes;) {
            epoll_event event;
            if (!spins_ && ::epoll_wait(epoll_, &event, 1, -1) < 1) continue;
            const ssize_t more = ::recv(socket_, bytes + have, kBytes - have, MSG_DONTWAIT);
            if (more < 0 && errno == EAGAIN) continue;
            if (more <= 0) return false;
            have += static_cast<std::size_t>(more);
        }
        return true;
    }

    void send(const char* bytes) { check(::send(socket_, bytes, kBytes, 0) == static_cast<ssize_t>(kBytes), "send"); }

 private:
    int socket_, epoll_;
    bool spins_;
};

int loopback(bool listens, std::uint16_t port, sockaddr_in& address) {
    const int socket = ::socket(AF_INET, SOCK_STREAM, 0);
    address = {};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (!listens) {
        check(::connect(socket, generic, sizeof address) == 0, "connect");
        return socket;
    }
    check(::bind(socket, generic, sizeof address) == 0 && ::listen(socket, 1) == 0, "listen");
    socklen_t size = sizeof address;
    ::getsockname(socket, generic, &size);
    return socket;
}

void serve(bool spins) {
    sockaddr_in address;
    const int listener = loopback(true, 0, address);
    std::printf("%d\n", ntohs(address.sin_port));
    std::fflush(stdout);
    Stream stream(::accept(listener, nullptr, nullptr), spins);
    char bytes[kBytes];
    while (stream.receive(bytes)) stream.send(bytes);
}

void call(std::uint16_t port, int count, bool spins) {
    sockaddr_in address;
    Stream stream(loopback(false, port, address), spins);
    char bytes[kBytes] = {};
    std::vector<long> times;
    for (int i = 0; i < count; ++i) {
        const auto start = std::chrono::steady_clock::now();
        stream.send(bytes);
        check(stream.receive(bytes), "receive");
        times.push_back(std::chrono::nanoseconds(std::chrono::steady_clock::now() - start).count());
    }
    for (const long time : times) std::printf("%ld\n", time);
}

}  // namespace

int main(int count, char** arguments) {
    const bool spins = std::strcmp(arguments[count - 1], "spin") == 0;
    if (spins) --count;
    if (count == 2 && std::strcmp(arguments[1], "serve") == 0) return serve(spins), 0;
    if (count == 4 && std::strcmp(arguments[1], "call") == 0) {
        return call(static_cast<std::uint16_t>(std::atoi(arguments[2])), std::atoi(arguments[3]), spins), 0;
    }
    return 2;
}
