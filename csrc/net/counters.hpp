// What links and deliveries count and measure; read from any thread.
#pragma once

#include <atomic>
#include <cstdint>

namespace edgespec::net {

// Of a link.
struct Counters {
    std::atomic<std::uint64_t> bytes_sent{0};
    std::atomic<std::uint64_t> bytes_received{0};
    std::atomic<double> rtt_ms{-1.0};    // smoothed, as in RFC 6298; below 0: not measured yet
    std::atomic<double> jitter_ms{0.0};  // how far a round trip is off that, on average
    std::atomic<bool> awaited{false};    // something is expected of the peer: the link is not quiet meanwhile
};

// Of deliveries.
struct Traffic {
    std::atomic<std::uint64_t> sent{0};     // numbered frames
    std::atomic<std::uint64_t> hedged{0};   // of these, sent again because no acknowledgement came in time
    std::atomic<std::uint64_t> resent{0};   // sent again because their path was gone, or stalled
    std::atomic<std::uint64_t> repeats{0};  // that came twice
};

}  // namespace edgespec::net
