// The edge's link to its servers: an I/O thread that keeps one session alive over connections that are not.
//
// It connects, says HELLO, opens or resumes the session, holds a second connection warm to hedge on, and when the last
// connection is gone tries the servers in turn, at once and then with jittered pauses, until one answers. What happened
// comes out of the inbox among the messages. Python's lock is never needed for any of it.
#pragma once

#include <array>
#include <thread>

#include "net/edge_path.hpp"
#include "net/loop.hpp"
#include "net/outage.hpp"
#include "net/servers.hpp"

namespace edgespec::net {

struct ResilientConnectionLimits {
    LinkLimits link;
    DeliveryLimits delivery;
    bool hedge = true;
    bool busy_spin = false;                           // who waits never sleeps, nor does the I/O thread
    std::chrono::milliseconds first_contact{10'000};  // all servers together, before there is a session to keep
    std::chrono::milliseconds dial_at_least{300};     // an attempt's time: three round trips, within these bounds
    std::chrono::milliseconds dial_at_most{1000};
    std::chrono::milliseconds dial_beside{400};      // while the link is lost: no answer yet, another attempt beside it
    std::chrono::milliseconds greet_within{10'000};  // from HELLO to the session's frames; a server may be busy
    OutageLimits outage;
};

// What happened to the link.
struct Lost {  // the last connection is gone
    std::string reason;
};
struct Reconnected {  // and the session goes on
    double seconds;   // since it was lost
    Address address;
};
struct Forgotten {   // a server does not know the session: open it anew
    double seconds;  // since it was lost; 0 if it was not
    Address address;
};
struct Offline {};  // lost for longer than `offline_after`
struct Astray {     // the second connection keeps reaching servers that do not know the session
    Address address;
};
struct Woken {};  // `wake` was called
struct GivenUp {  // lost for `give_up_after`, and again that long; attempts go on
    std::string reason;
};
using Arrival = std::variant<Received, Lost, Reconnected, Forgotten, Offline, Astray, Woken, GivenUp>;

class ResilientConnection final : private EdgePathOwner {
 public:
    // Begins to connect. `hello` is what every connection says first.
    ResilientConnection(std::vector<Address> addresses, Frame hello, ResilientConnectionLimits limits,
                        std::shared_ptr<Tls> tls = nullptr);
    ~ResilientConnection();
    ResilientConnection(const ResilientConnection&) = delete;
    ResilientConnection& operator=(const ResilientConnection&) = delete;

    // An OPEN: the session begins, or begins anew, on whichever server there is; nothing of one before is kept.
    void open(Frame open);
    void send(Frame frame);                         // to the session; never blocks
    void ask(Frame frame);                          // of the connection, over whichever is welcomed
    void move();                                    // leave this server for the next
    void set_servers(std::vector<Address> others);  // behind the present one, in place of all others
    void wake() {                                   // who waits on the inbox; from any thread
        loop_.run([this] { tell(Woken{}); });
    }
    void await(bool verdicts) { counters_->awaited = verdicts; }  // a link that waits for them is never quiet
    void close();                                                 // what is queued may leave
    void end();                                                   // and has left: waits for it

    Inbox<Arrival>& inbox() { return inbox_; }
    Loop<Inbox<Arrival>>& loop() { return loop_; }
    bool dead() const { return dead_; }              // closed, or no server was ever reached
    bool lost() const { return outage_.lasts(); }    // no connection carries the session now
    unsigned paths() const { return carrying_; }     // connections that carry it
    unsigned welcomed() const { return welcomed_; }  // connections that a server has welcomed
    std::string reason() const {
        const std::lock_guard<std::mutex> lock(mutex_);
        return reason_;
    }
    Address address() const { return servers_.answered(); }
    const Counters& counters() const { return *counters_; }
    const Traffic& traffic() const { return *traffic_; }

 private:
    using Path = EdgePath;

    void heard(Path& path, Received&& received) override;
    void heard_of_session(Path& path, const wire::Header& header, Received&& received) override;
    void failed(Path& path, const std::string& reason) override;
    void entered() override;
    void leaves(const Link& link) override {
        if (delivery_) delivery_->detach(link);
    }

    void approach(Path& path, std::size_t address);
    void hear_welcome(Path& path, Received&& received);
    void begin(Path& path);
    void carry(Path& path);
    void warm(const Path& path);
    void forgotten(Path& path);
    void search(Path& path);
    std::size_t next_server() { return outage_.next_server(servers_.at(), servers_.size()); }
    void approach_beside(std::chrono::milliseconds after);
    void approach_after(Path& path, std::size_t address, unsigned failures);
    void lose(const std::string& reason);
    void tell(Arrival arrival) {
        if (!closing_) inbox_.push(std::move(arrival));
    }
    void found(std::size_t address);
    void forget();
    void die(const std::string& reason);
    void note(const std::string& reason) {
        const std::lock_guard<std::mutex> lock(mutex_);
        reason_ = reason;
    }

    Path& other(const Path& path) { return &path == &paths_[0] ? paths_[1] : paths_[0]; }
    bool up(const Path& path) const {
        return path.stage() == Path::Stage::kCarrying || (!delivery_ && path.stage() == Path::Stage::kWelcomed);
    }
    std::chrono::milliseconds dial_within(const Path& path) const;

    asio::io_context io_;
    std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_;
    Servers servers_;
    const ResilientConnectionLimits limits_;
    const std::shared_ptr<Counters> counters_ = std::make_shared<Counters>();
    const EdgePathSetup setup_;
    const std::shared_ptr<Traffic> traffic_ = std::make_shared<Traffic>();
    Inbox<Arrival> inbox_;
    std::array<Path, 2> paths_;
    std::shared_ptr<Delivery> delivery_;  // the session's, once it is open
    wire::SessionId session_id_{};
    std::uint16_t channel_ = 0;  // of the session; another each time it is opened
    bool reached_ = false;       // some server has welcomed us
    unsigned strays_ = 0;        // since the session was opened
    bool closing_ = false;
    Outage outage_;
    asio::steady_timer beside_;
    std::atomic<bool> dead_{false};
    std::atomic<unsigned> carrying_{0};
    std::atomic<unsigned> welcomed_{0};
    mutable std::mutex mutex_;  // guards reason_
    std::string reason_;
    Loop<Inbox<Arrival>> loop_{io_, inbox_};
};

}  // namespace edgespec::net
