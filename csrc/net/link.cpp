#include "net/link.hpp"

#include <algorithm>
#include <cmath>

namespace edgespec::net {

std::uint64_t clock_ns() {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::nanoseconds>(Clock::now().time_since_epoch()).count());
}

std::size_t agreed_payload(const wire::Welcome& welcome) {
    const auto frame = std::clamp<std::size_t>(welcome.max_frame_bytes, 1024, wire::kHeaderBytes + wire::kMaxPayload);
    return frame - wire::kHeaderBytes;
}

Link::Link(asio::io_context& io, std::unique_ptr<Transport> transport, std::shared_ptr<SlabPool> pool,
           LinkLimits limits, std::shared_ptr<Counters> counters)
    : counters(std::move(counters)),
      io_(io),
      transport_(std::move(transport)),
      receiver_(std::move(pool), limits.unread_bytes),
      limits_(limits),
      ticker_(io),
      retry_(io),
      closer_(io) {}

void Link::begin(Transport::Begun done) {
    transport_->begin([self = shared_from_this(), done = std::move(done)](const std::string& reason) {
        if (self->ended_) return done("closed");
        if (!reason.empty()) self->end(reason);
        done(reason);
    });
}

void Link::start(OnMessage on_message, OnEnd on_end, OfSession of_session) {
    on_message_ = std::move(on_message);
    on_end_ = std::move(on_end);
    of_session_ = std::move(of_session);
    heard_ = frame_began_ = touched_ = Clock::now();
    read();
    tick();
}

void Link::send(Frame frame) {
    if (!sends()) return;
    if (wire::read_header(frame.data()).channel != 0) touch();
    queued_bytes_ += frame.size();
    if (queued_bytes_ > limits_.queued_bytes) {  // ends soon, not now: the caller may be among its sessions
        return asio::post(
            io_, [self = shared_from_this()] { self->end("the peer reads too slowly: too much waits to be sent"); });
    }
    queued_.push_back(std::move(frame));
    if (writing_.empty()) write();
}

void Link::finish(const std::string& reason) {
    if (ended_ || finishing_) return;
    finishing_ = true;
    finish_reason_ = reason;
    closer_.expires_after(limits_.finish_within);
    closer_.async_wait([self = shared_from_this()](ErrorStatus error) {
        if (!error) self->end(self->finish_reason_);
    });
    if (writing_.empty()) transport_->shut_down();
}

void Link::set_share(std::shared_ptr<DeviceShare> share) {
    share_ = share;
    receiver_.set_share(std::move(share));
}

void Link::spend(double frames) {
    if (share_) share_->frames.spend(frames, Clock::now());
}

void Link::refuse(const std::string& reason) {
    send(frame_of(0, wire::Error{wire::ErrorCode::kProtocol, false, 0, reason}));
    finish("the peer broke the protocol: " + reason);
}

void Link::end(const std::string& reason) {
    if (ended_) return;
    ended_ = true;
    transport_->close();
    ticker_.cancel();
    retry_.cancel();
    closer_.cancel();
    const auto on_end = std::move(on_end_);
    on_message_ = nullptr;
    if (on_end) on_end(reason);
}

void Link::read() {
    const Receiver::Room room = receiver_.room();
    auto self = shared_from_this();
    if (room.bytes == 0) return read_later();
    no_room_since_.reset();
    retry_in_ = kRetryIn;
    transport_->read_some(room.data, room.bytes, [self](ErrorStatus error, std::size_t bytes) {
        if (self->ended_) return self->receiver_.release();
        if (error && self->finishing_) return self->end(self->finish_reason_);
        if (error) return self->end(error == asio::error::eof ? "the peer closed the connection" : error.message());
        self->heard_ = Clock::now();
        self->counters->bytes_received += bytes;
        // What still comes is passed over. To close with bytes unread would reset the connection, and the peer might
        // never read why.
        if (self->finishing_) return self->read();
        const bool had_begun = self->receiver_.unfinished();
        const std::uint64_t frames = self->receiver_.frames();
        try {
            self->receiver_.received(bytes, [&](const wire::Header& header, Received&& received) {
                if (!self->ended_ && !self->finishing_) self->take(header, std::move(received));
            });
        } catch (const wire::BadFrame& bad) {
            self->refuse(bad.what());
        }
        if (!had_begun || self->receiver_.frames() != frames) self->frame_began_ = self->heard_;
        if (!self->ended_) self->read();
    });
}

// There is no room, or the device is beyond its rate: the peer has to wait. Its end and its silence are noticed all the
// same. A peer that has left is not read on for long: what it sent was not acknowledged, so it would send it again.
void Link::read_later() {
    const auto now = Clock::now();
    const Transport::Pending pending = transport_->pending();
    if (!no_room_since_) no_room_since_ = now;
    const auto waits = now - *no_room_since_;
    if (pending.end && !left_at_) left_at_ = now;
    if (left_at_ && now - *left_at_ > kReadOnWithin) return end("the peer closed the connection");
    if (waits > limits_.room_within) return end("there was no room for what the peer sends");
    if (pending.bytes && !pending.end) heard_ = now;  // it is this side that does not listen
    frame_began_ = now;
    retry_.expires_after(retry_in_);
    retry_.async_wait([self = shared_from_this()](ErrorStatus error) {
        if (!error && !self->ended_) self->read();
    });
    retry_in_ = std::min(2 * retry_in_, kLongestRetryIn);
}

void Link::take(const wire::Header& header, Received&& received) {
    const auto type = static_cast<wire::FrameType>(header.type);
    if (type != wire::FrameType::kPong) spoke_ = true;
    if (header.channel != 0) touch(heard_);
    if (header.channel != 0 && of_session_ && of_session_(header, received)) return;
    if (const auto* ping = std::get_if<wire::Ping>(&received.message)) {
        send(frame_of(0, wire::Pong{ping->clock_ns, static_cast<std::uint32_t>(clock_ns() / 1000)}));
    } else if (const auto* pong = std::get_if<wire::Pong>(&received.message)) {
        const double rtt_ms = static_cast<double>(clock_ns() - pong->clock_ns) / 1e6;
        const double smoothed = counters->rtt_ms.load();
        const double jitter_ms = counters->jitter_ms.load();
        if (smoothed >= 0) counters->jitter_ms = jitter_ms + (std::abs(rtt_ms - smoothed) - jitter_ms) / 4;
        counters->rtt_ms = smoothed < 0 ? rtt_ms : smoothed + (rtt_ms - smoothed) / 8;
    } else if (type != wire::FrameType::kAck) {
        on_message_(std::move(received));
    }
}

void Link::write() {
    writing_.swap(queued_);
    buffers_.clear();
    for (const Frame& frame : writing_) buffers_.emplace_back(frame.data(), frame.size());
    transport_->write(buffers_, [self = shared_from_this()](ErrorStatus error, std::size_t bytes) {
        if (self->ended_) return;
        if (error) return self->end(error.message());
        self->counters->bytes_sent += bytes;
        self->queued_bytes_ -= bytes;
        self->writing_.clear();
        if (!self->queued_.empty()) return self->write();
        if (self->finishing_) self->transport_->shut_down();
    });
}

void Link::tick() {
    const auto now = Clock::now();
    const auto dead_after = quiet_ ? std::max(limits_.dead_after, limits_.quiet_dead_after) : limits_.dead_after;
    if (now - heard_ > dead_after) return end("nothing was heard from the peer in time");
    if (receiver_.unfinished() && now - frame_began_ > limits_.frame_within) {
        return refuse("a frame was not completed in time");
    }
    // A peer that speaks unasked is there; the round trip is measured now and then all the same.
    spoken_ticks_ = spoke_ ? spoken_ticks_ + 1 : 0;
    spoke_ = false;
    if (spoken_ticks_ % limits_.ticks_a_ping == 0) send(frame_of(0, wire::Ping{clock_ns()}));
    quiet_ = !counters->awaited && now - touched_ > limits_.quiet_after;
    tick_in(quiet_ ? std::max(limits_.ping_every, limits_.quiet_ping_every) : limits_.ping_every);
}

void Link::touch(Clock::time_point when) {
    touched_ = when;
    if (!quiet_) return;
    quiet_ = false;
    heard_ = touched_;  // how long the peer has said nothing counts from now on
    spoken_ticks_ = 0;
    spoke_ = false;
    tick_in(std::chrono::milliseconds(0));
}

void Link::tick_in(std::chrono::milliseconds delay) {
    ticker_.expires_after(delay);
    ticker_.async_wait([self = shared_from_this()](ErrorStatus error) {
        if (!error && !self->ended_) self->tick();
    });
}

}  // namespace edgespec::net
