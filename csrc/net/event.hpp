// What a listener tells its caller about a connection or a session, each by its number.
#pragma once

#include <cstdint>
#include <string>
#include <variant>

#include "net/inbox.hpp"
#include "net/receiver.hpp"

namespace edgespec::net {

struct Connected {
    std::string address;      // the peer's, without its port
    std::string certificate;  // the name in the certificate it showed; empty: none was asked for
};
struct Disconnected {
    std::string reason;
};
struct Away {  // the session's last connection is gone
    std::string reason;
};
struct Returned {};  // and now it has one again
struct Event {
    std::uint64_t number = 0;
    std::variant<Connected, Disconnected, Away, Returned, Received> what;
    std::uint64_t lane = 0;  // of the device that it is about; 0: nobody knows yet whose it is
};
using EventBox = Inbox<Event, Lanes<Event>>;

}  // namespace edgespec::net
