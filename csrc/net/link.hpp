// A link: one connection's frames in and out, on its I/O thread. It answers PINGs, notices a dead or stalled peer, and
// bounds what waits to be sent. What is sequenced belongs to a session (delivery.hpp). Client and server share it.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "net/counters.hpp"
#include "net/frame.hpp"
#include "net/limits.hpp"
#include "net/receiver.hpp"
#include "net/transport.hpp"

namespace edgespec::net {

// The most an edge takes before WELCOME says what is agreed.
constexpr std::size_t kFirstPayload = 64 * 1024;

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
    // False: what is sent is dropped, as the link has ended or soon will.
    bool sends() const { return !ended_ && !finishing_ && queued_bytes_ <= limits_.queued_bytes; }
    void finish(const std::string& reason = "closed");  // close once the peer has read everything queued, or in time
    void refuse(const std::string& reason);             // the peer broke the protocol: say so, then close
    void end(const std::string& reason);
    // A session speaks, here or on a link beside this one: not quiet.
    void touch(Clock::time_point when = Clock::now());
    void set_share(std::shared_ptr<DeviceShare> share);
    // The peer made this end do as much as this many of its frames would.
    void spend(double frames);
    void set_max_payload(std::size_t bytes) { receiver_.set_max_payload(bytes); }

    const std::shared_ptr<Counters> counters;

 private:
    static constexpr std::chrono::milliseconds kRetryIn{2}, kLongestRetryIn{64};  // where there is no room
    static constexpr std::chrono::milliseconds kReadOnWithin{250};                // once the peer has left meanwhile

    void read();
    void read_later();
    void take(const wire::Header& header, Received&& received);
    void write();
    void tick();
    void tick_in(std::chrono::milliseconds delay);

    asio::io_context& io_;
    std::unique_ptr<Transport> transport_;
    Receiver receiver_;
    std::shared_ptr<DeviceShare> share_;  // none: an edge's
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
    std::optional<Clock::time_point> no_room_since_, left_at_;  // left_at_: its end was seen behind bytes that wait
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

// The most payload of a frame, prompts apart, once this was said.
std::size_t agreed_payload(const wire::Welcome& welcome);

std::uint64_t clock_ns();

}  // namespace edgespec::net
