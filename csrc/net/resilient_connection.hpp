// The edge's link to its servers: an I/O thread that keeps one session alive over connections that are not.
//
// It connects, says HELLO, opens or resumes the session, holds a second connection warm to hedge on, and when the last
// connection is gone tries the servers in turn, at once and then with jittered pauses, until one answers. What happened
// comes out of the inbox among the messages. Python's lock is never needed for any of it.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "net/address.hpp"
#include "net/counters.hpp"
#include "net/frame.hpp"
#include "net/inbox.hpp"
#include "net/limits.hpp"
#include "net/receiver.hpp"
#include "net/tls.hpp"

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
struct OtherTarget {  // a server was passed over: it does not serve what the first one did
    std::string target_id;
    Address address;
};
struct Woken {};  // `wake` was called
struct GivenUp {  // lost for `give_up_after`, and again that long; attempts go on
    std::string reason;
};
using Arrival = std::variant<Received, Lost, Reconnected, Forgotten, Offline, Astray, OtherTarget, Woken, GivenUp>;

class ResilientConnection {
 public:
    ResilientConnection() = default;
    virtual ~ResilientConnection() = default;
    ResilientConnection(const ResilientConnection&) = delete;
    ResilientConnection& operator=(const ResilientConnection&) = delete;

    // An OPEN: the session begins, or begins anew, on whichever server there is; nothing of one before is kept.
    virtual void open(Frame open) = 0;
    virtual void send(Frame frame) = 0;                         // to the session; never blocks
    virtual void ask(Frame frame) = 0;                          // of the connection, over whichever is welcomed
    virtual void move() = 0;                                    // leave this server for the next
    virtual void set_servers(std::vector<Address> others) = 0;  // behind the present one, in place of all others
    virtual void wake() = 0;                                    // who waits on the inbox; from any thread
    virtual void await(bool verdicts) = 0;                      // a link that waits for them is never quiet
    virtual void close() = 0;                                   // what is queued may leave
    virtual void end() = 0;                                     // and has left: waits for it

    virtual Inbox<Arrival>& inbox() = 0;
    // As the inbox's, doing the I/O meanwhile.
    virtual bool wait_until(Clock::time_point deadline) = 0;
    virtual bool dead() const = 0;          // closed, or no server was ever reached
    virtual bool lost() const = 0;          // no connection carries the session now
    virtual unsigned paths() const = 0;     // connections that carry it
    virtual unsigned welcomed() const = 0;  // connections that a server has welcomed
    virtual std::string reason() const = 0;
    virtual Address address() const = 0;
    virtual const Counters& counters() const = 0;
    virtual const Traffic& traffic() const = 0;
};

// Begins to connect. `hello` is what every connection says first.
std::unique_ptr<ResilientConnection> connect(std::vector<Address> addresses, Frame hello,
                                             ResilientConnectionLimits limits, std::shared_ptr<Tls> tls = nullptr);

}  // namespace edgespec::net
