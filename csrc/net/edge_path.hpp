// One connection of the edge's, made or on its way: it dials, says HELLO, and hands over what the server says.
//
// A path is used again and again: `drop` ends what it does, and nothing of that is heard any more. All of it on the I/O
// thread.
#pragma once

#include "net/delivery.hpp"
#include "net/dial.hpp"

namespace edgespec::net {

class EdgePath;

// What a path tells its owner.
class EdgePathOwner {
 public:
    virtual void heard(EdgePath& path, Received&& received) = 0;
    virtual void heard_of_session(EdgePath& path, const wire::Header& header, Received&& received) = 0;
    virtual void failed(EdgePath& path, const std::string& reason) = 0;
    virtual void entered() = 0;                 // a path has entered another stage
    virtual void leaves(const Link& link) = 0;  // nothing more goes by this link

 protected:
    ~EdgePathOwner() = default;
};

// What every connection is made with.
struct EdgePathSetup {
    Frame hello;
    std::shared_ptr<Tls> tls;
    std::shared_ptr<SlabPool> pool;
    LinkLimits limits;
    std::chrono::milliseconds greet_within;  // from HELLO to the session's frames
    std::shared_ptr<Counters> counters;
};

class EdgePath {
 public:
    enum class Stage { kIdle, kPausing, kDialling, kGreeting, kWelcomed, kResuming, kCarrying };

    EdgePath(asio::io_context& io, EdgePathOwner& owner, const EdgePathSetup& setup)
        : io_(io), owner_(owner), setup_(setup), timer_(io) {}

    Stage stage() const { return stage_; }
    const std::shared_ptr<Link>& link() const { return link_; }

    void dial(const Address& address, std::chrono::milliseconds within);
    // Calls `then` after the pause, unless the path does something else by then.
    void pause(std::chrono::microseconds pause, std::function<void()> then);
    void enter(Stage stage);
    void greeted() { timer_.cancel(); }  // the server has answered: the handshake is over
    void drop();
    void finish();  // what is queued may leave; nothing more is begun

    std::size_t address = 0;  // of the server, among those of the owner
    std::uint16_t channel = 0;
    unsigned failures = 0;

 private:
    void greet(std::unique_ptr<Transport> transport);

    asio::io_context& io_;
    EdgePathOwner& owner_;
    const EdgePathSetup& setup_;
    Stage stage_ = Stage::kIdle;
    std::uint64_t attempt_ = 0;  // what an earlier attempt still has to say is not heard
    bool finished_ = false;
    std::shared_ptr<Dial> dial_;
    std::shared_ptr<Link> link_;
    asio::steady_timer timer_;  // of a pause, or of the handshake
};

}  // namespace edgespec::net
