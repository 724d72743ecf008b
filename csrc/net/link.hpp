// A link: one connection's frames in and out, on its I/O thread. It answers PINGs, notices a dead or stalled peer, and
// bounds what waits to be sent. What is sequenced belongs to a session (delivery.hpp). Client and server share it.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/receiver.hpp"
#include "net/transport.hpp"

namespace edgespec::net {

// The most an edge takes before WELCOME says what is agreed.
constexpr std::size_t kFirstPayload = 64 * 1024;

// A connection is closed or cannot be had; the text says why.
struct Disconnection : std::runtime_error {
    using std::runtime_error::runtime_error;
};

using Frame = std::vector<std::uint8_t>;
using Clock = std::chrono::steady_clock;

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

struct Counters {
    std::atomic<std::uint64_t> bytes_sent{0};
    std::atomic<std::uint64_t> bytes_received{0};
    std::atomic<double> rtt_ms{-1.0};    // smoothed, as in RFC 6298; below 0: not measured yet
    std::atomic<double> jitter_ms{0.0};  // how far a round trip is off that, on average
    std::atomic<bool> awaited{false};    // something is expected of the peer: the link is not quiet meanwhile
};

class Link : public std::enable_shared_from_this<Link> {
 public:
    using OnMessage = std::function<void(Received&&)>;
    using OnEnd = std::function<void(const std::string& reason)>;
    // Takes a frame of a channel that is a session's; false: it is none.
    using OfSession = std::function<bool(const wire::Header&, Received&)>;

    Link(asio::io_context& io, std::unique_ptr<Transport> transport, std::shared_ptr<SlabPool> pool, LinkLimits limits,
         std::shared_ptr<Counters> counters = std::make_shared<Counters>());

    // Whatever the transport has to agree on first (no reason: it has), then `start`.
    void begin(Transport::Begun done);
    std::string peer_name() const { return transport_->peer_name(); }

    // All of these on the I/O thread. After `on_end` nothing more is delivered.
    void start(OnMessage on_message, OnEnd on_end, OfSession of_session = nullptr);
    void send(Frame frame);
    void finish(const std::string& reason = "closed");  // close once the peer has read everything queued, or in time
    void refuse(const std::string& reason);             // the peer broke the protocol: say so, then close
    void end(const std::string& reason);
    // A session speaks, here or on a link beside this one: not quiet.
    void touch(Clock::time_point when = Clock::now());
    void set_share(std::shared_ptr<DeviceShare> share) { receiver_.set_share(std::move(share)); }
    void set_max_payload(std::size_t bytes) { receiver_.set_max_payload(bytes); }

    const std::shared_ptr<Counters> counters;

 private:
    static constexpr std::chrono::milliseconds kRetryIn{2}, kLongestRetryIn{64};  // where there is no room

    void read();
    void read_later();
    void take(const wire::Header& header, Received&& received);
    void write();
    void tick();
    void tick_in(std::chrono::milliseconds delay);

    asio::io_context& io_;
    std::unique_ptr<Transport> transport_;
    Receiver receiver_;
    LinkLimits limits_;
    OnMessage on_message_;
    OnEnd on_end_;
    OfSession of_session_;
    asio::steady_timer ticker_;
    asio::steady_timer retry_;
    asio::steady_timer closer_;
    std::vector<Frame> queued_;
    std::vector<Frame> writing_;
    std::vector<asio::const_buffer> buffers_;  // of what is being written
    std::size_t queued_bytes_ = 0;
    Clock::time_point heard_;
    std::optional<Clock::time_point> no_room_since_;
    std::chrono::milliseconds retry_in_ = kRetryIn;
    Clock::time_point frame_began_;
    Clock::time_point touched_;
    bool quiet_ = false;
    bool spoke_ = false;         // the peer has sent more than answers since the last tick
    unsigned spoken_ticks_ = 0;  // ticks in a row of which that was true
    bool finishing_ = false;
    std::string finish_reason_;
    bool ended_ = false;
};

// A frame of one message, ready to send.
template <class M>
Frame frame_of(std::uint16_t channel, const M& message) {
    Frame frame(wire::frame_bytes(message));
    wire::encode(channel, message, frame.data());
    return frame;
}

// The most payload of a frame, prompts apart, once this was said.
std::size_t agreed_payload(const wire::Welcome& welcome);

std::uint64_t clock_ns();

}  // namespace edgespec::net
