// How long and how much: the limits of links, deliveries, outages and sessions. Both ends' own are beside their faces.
#pragma once

#include <chrono>
#include <cstddef>

#include "net/rate.hpp"

namespace edgespec::net {

struct LinkLimits {
    std::chrono::milliseconds ping_every{1000};
    unsigned ticks_a_ping = 5;                   // while the peer speaks of itself
    std::chrono::milliseconds dead_after{3000};  // no byte from the peer for so long
    // A link on which no session said anything for so long is quiet: it costs next to nothing, and a peer that is gone
    // is noticed late, or soon after something is sent again.
    std::chrono::milliseconds quiet_after{10000};
    std::chrono::milliseconds quiet_ping_every{30000};
    std::chrono::milliseconds quiet_dead_after{90000};
    std::chrono::milliseconds frame_within{10000};  // from a frame's first byte to its last
    std::chrono::milliseconds room_within{30000};   // the peer has to wait for so long, then it is given up
    std::chrono::milliseconds finish_within{1000};  // what is queued may leave, and the peer may read it to its end
    std::size_t queued_bytes = 8u << 20;
    std::size_t unread_bytes = 1u << 20;  // received and not taken: beyond that the peer has to wait
};

struct LedgerLimits {
    std::size_t kept_bytes = 8u << 20;   // of frames that are not acknowledged
    std::size_t early = 256;             // frames that wait for one before them
    std::size_t early_bytes = 8u << 20;  // of these frames
};

struct DeliveryLimits {
    LedgerLimits ledger;
    std::chrono::milliseconds acknowledge_within{20};  // while there is one path; the next frame may bear it
    std::chrono::milliseconds acknowledge_soon{2};     // while there are two, and the peer waits to send again
    double hedge_rtts = 1.25;                          // unacknowledged for this number of round trips
    std::chrono::milliseconds hedge_slack{4};          // and this time more: send it again
    std::size_t large_bytes = 4096;                    // a frame this large has time for its bytes too,
    double large_bytes_ms = 125;                       // this many a millisecond (1 Mbit/s), and so what follows it
    double hedge_share = 0.10;                         // of the frames sent
    double hedge_burst = 8;                            // saved up at most
    std::chrono::milliseconds stalled_after{300};      // and four times the time to a hedge, unacknowledged
    std::chrono::milliseconds look_again{20};          // whether a path has been heard from since
    std::size_t paths = 4;
};

struct OutageLimits {
    std::chrono::milliseconds offline_after{0};  // 0: never
    std::chrono::milliseconds give_up_after{30'000};
    std::chrono::milliseconds pause_at_least{50};  // between attempts, doubled with each
    std::chrono::milliseconds pause_at_most{1000};
};

struct SessionLimits {
    RateLimit opens{50, 512};              // sessions begun by one device, or from one address
    RateLimit resumes{20, 512};            // and resumed
    RateLimit turns{20, 64};               // APPENDs of one session
    RateLimit tunes{100, 200};             // TUNEs of one session
    std::size_t session_bytes = 1u << 18;  // sent to a session and not acknowledged
    std::size_t early_frames = 256;        // of a session, that wait for one before them
    std::size_t early_bytes = 16u << 10;   // of these frames
};

}  // namespace edgespec::net
