#include "net/delivery.hpp"

#include <algorithm>
#include <cstring>

namespace edgespec::net {

namespace {

// How long the large frames up to one take on a slow link: a picture that is under way is not sent twice.
class LargeFrames {
 public:
    explicit LargeFrames(const DeliveryLimits& limits) : limits_(limits) {}

    Clock::duration time(const Ledger::Kept& kept) {
        if (kept.frame.size() >= limits_.large_bytes) bytes_ += static_cast<double>(kept.frame.size());
        const std::chrono::duration<double, std::milli> time(bytes_ / limits_.large_bytes_ms);
        return std::chrono::duration_cast<Clock::duration>(time);
    }

 private:
    const DeliveryLimits& limits_;
    double bytes_ = 0;
};

}  // namespace

Delivery::Delivery(asio::io_context& io, DeliveryLimits limits, OnMessage on_message, OnFull on_full,
                   std::shared_ptr<Traffic> traffic)
    : limits_(limits),
      on_message_(std::move(on_message)),
      on_full_(std::move(on_full)),
      traffic_(std::move(traffic)),
      ledger_(limits.ledger),
      hedger_(io),
      acknowledger_(io),
      budget_(limits.hedge_burst) {}

void Delivery::send(Frame frame) {
    if (stopped_) return;
    const auto type = static_cast<wire::FrameType>(wire::read_header(frame.data()).type);
    if (!wire::is_sequenced(type)) {
        if (!paths_.empty()) put(paths_.back(), std::move(frame));
        return;
    }
    try {
        Ledger::Kept& kept = ledger_.keep(std::move(frame));
        ++traffic_->sent;
        budget_ = std::min(limits_.hedge_burst, budget_ + limits_.hedge_share);
        if (!paths_.empty()) put(paths_.back(), kept);
    } catch (const LedgerFull& full) {
        return fill(full);
    }
    arm();
}

void Delivery::fill(const LedgerFull& full) {
    const auto on_full = on_full_;
    stop();
    on_full(full.what());
}

void Delivery::attach(std::shared_ptr<Link> link, std::uint16_t channel, bool spare) {
    if (stopped_) return;
    detach(*link);
    if (paths_.size() >= limits_.paths) detach(*paths_.front().link);
    paths_.insert(spare ? paths_.begin() : paths_.end(), {std::move(link), channel});
    put_stranded();
    arm();
}

void Delivery::detach(const Link& link) {
    const auto gone =
        std::find_if(paths_.begin(), paths_.end(), [&](const Path& path) { return path.link.get() == &link; });
    if (gone == paths_.end()) return;
    paths_.erase(gone);
    for (Ledger::Kept& kept : ledger_.kept()) {
        if (kept.path == &link) kept.path = nullptr;
    }
    put_stranded();
}

bool Delivery::goes_over(const Link& link) const {
    return std::any_of(paths_.begin(), paths_.end(), [&](const Path& path) { return path.link.get() == &link; });
}

void Delivery::replay(const Link& link, std::uint32_t last_sequence) {
    acknowledged(last_sequence);
    const Path* path = find(&link);
    if (path == nullptr) return;
    for (Ledger::Kept& kept : ledger_.kept()) {
        if (kept.path == &link) continue;
        if (!path->link->sends()) return;  // it ends soon: the rest goes out on another
        ++traffic_->resent;
        kept.hedged = false;
        put(*path, kept);
    }
}

void Delivery::acknowledged(std::uint32_t sequence) {
    begun_ = begun_ || sequence > 0;
    const auto sent = ledger_.acknowledged(sequence);
    if (!sent || paths_.size() < 2) return;  // with one path acknowledgements take their time
    const double sample_ms = std::chrono::duration<double, std::milli>(Clock::now() - *sent).count();
    // A sample that met a loss says little of the round trip: it counts for twice the mean at most.
    rtt_ms_ = rtt_ms_ < 0 ? sample_ms : rtt_ms_ + (std::min(sample_ms, 2 * rtt_ms_) - rtt_ms_) / 8;
}

void Delivery::take(const Link& link, const wire::Header& header, Received&& received) {
    Path* path = find(&link);
    if (path == nullptr || stopped_) return;
    path->heard = Clock::now();
    link_rtt_ms_ = link.counters->rtt_ms.load();
    acknowledged(header.acknowledge);
    if (!wire::is_sequenced(static_cast<wire::FrameType>(header.type))) {
        if (header.type != static_cast<std::uint8_t>(wire::FrameType::kAck)) on_message_(std::move(received));
        return;
    }
    const auto self = shared_from_this();  // a message may end the session
    bool fresh = false;
    try {
        fresh = ledger_.take(header.sequence, std::move(received), [this](Received&& next) {
            if (!stopped_) on_message_(std::move(next));
        });
    } catch (const LedgerFull& full) {
        return fill(full);
    }
    if (stopped_) return;
    if (!fresh) {
        ++traffic_->repeats;
        return acknowledge(*path);  // the peer has not heard it by the other
    }
    if (path != &paths_.back()) std::rotate(path, path + 1, paths_.data() + paths_.size());
    owe();
}

void Delivery::stop() {
    stopped_ = true;
    if (owing_ && !paths_.empty()) acknowledge(paths_.back());
    paths_.clear();
    hedger_.cancel();
    acknowledger_.cancel();
    on_message_ = nullptr;
}

Delivery::Path* Delivery::find(const Link* link) {
    for (Path& path : paths_) {
        if (path.link.get() == link) return &path;
    }
    return nullptr;
}

Delivery::Path* Delivery::other_than(const Link* link) {
    for (auto path = paths_.rbegin(); path != paths_.rend(); ++path) {
        if (path->link.get() != link) return &*path;
    }
    return nullptr;
}

void Delivery::put(const Path& path, Frame frame) {
    for (const Path& other : paths_) other.link->touch();  // one that is needed next must be known to live
    wire::Header header = wire::read_header(frame.data());
    header.channel = path.channel;
    header.acknowledge = ledger_.received();
    std::memcpy(frame.data(), &header, wire::kHeaderBytes);
    owing_ = false;
    path.link->send(std::move(frame));
}

void Delivery::acknowledge(const Path& path) { put(path, frame_of(path.channel, wire::Ack{})); }

void Delivery::put(const Path& path, Ledger::Kept& kept) {
    kept.sent = Clock::now();
    kept.path = path.link.get();
    if (kept.times > 0) path.link->spend(1);
    ++kept.times;
    put(path, kept.frame);
}

// What has no path goes out on the one in use.
void Delivery::put_stranded() {
    if (paths_.empty()) return;
    const Path path = paths_.back();  // a link that ends while it is written to is detached meanwhile
    for (Ledger::Kept& kept : ledger_.kept()) {
        if (kept.path != nullptr) continue;
        if (!path.link->sends()) return;
        if (kept.times > 0) ++traffic_->resent;
        kept.hedged = false;
        put(path, kept);
    }
}

// The peer is to hear that this end has what came: with the next frame, or by itself.
void Delivery::owe() {
    owing_ = true;
    if (acknowledging_) return;
    acknowledging_ = true;
    acknowledger_.expires_after(paths_.size() > 1 ? limits_.acknowledge_soon : limits_.acknowledge_within);
    acknowledger_.async_wait([self = shared_from_this()](ErrorStatus error) {
        self->acknowledging_ = false;
        if (error || self->stopped_ || !self->owing_ || self->paths_.empty()) return;
        self->acknowledge(self->paths_.back());
    });
}

Clock::duration Delivery::max_wait() const {
    double rtt_ms = rtt_ms_;
    for (const Path& path : paths_) {
        if (rtt_ms < 0) rtt_ms = path.link->counters->rtt_ms.load();
    }
    if (rtt_ms < 0) rtt_ms = 1000;
    const std::chrono::duration<double, std::milli> max_wait(limits_.hedge_rtts * rtt_ms);
    return std::chrono::duration_cast<Clock::duration>(max_wait) + limits_.hedge_slack;
}

Clock::duration Delivery::long_max_wait() const {
    return std::max<Clock::duration>(limits_.stalled_after, 4 * max_wait());
}

// Sets the timer for the first frame that may have to go out again.
void Delivery::arm() {
    if (hedging_ || stopped_ || paths_.size() < 2 || ledger_.kept().empty()) return;
    const auto max_wait = this->max_wait(), long_max_wait = this->long_max_wait();
    const auto soon = Clock::now() + limits_.look_again;  // while every path is silent a stalled one cannot be left
    auto next = Clock::time_point::max();
    LargeFrames large(limits_);
    for (const Ledger::Kept& kept : ledger_.kept()) {
        const auto sent = kept.sent + large.time(kept);
        next = std::min(next, kept.hedged ? std::max(sent + long_max_wait, soon) : sent + max_wait);
    }
    hedging_ = true;
    hedger_.expires_at(next);
    hedger_.async_wait([self = shared_from_this()](ErrorStatus error) {
        self->hedging_ = false;
        if (error || self->stopped_) return;
        const auto now = Clock::now();
        self->leave_stalled(now);
        self->hedge(now);
        self->arm();
    });
}

void Delivery::hedge(Clock::time_point now) {
    const auto max_wait = this->max_wait();
    const Link* late = nullptr;
    LargeFrames large(limits_);
    for (Ledger::Kept& kept : ledger_.kept()) {
        const auto time = large.time(kept);
        if (kept.hedged || now < kept.sent + time + max_wait) continue;
        const Path* other = other_than(kept.path);
        if (other == nullptr) return;
        late = kept.path;
        kept.hedged = true;
        if (budget_ < 1) continue;
        budget_ -= 1;
        ++traffic_->hedged;
        put(*other, kept);
    }
    turn_from(late);
}

// A path that has left a frame unacknowledged for long, while another has been heard from, is stalled: all that is on
// it goes out again there, whatever the budget.
void Delivery::leave_stalled(Clock::time_point now) {
    const auto long_max_wait = this->long_max_wait();
    const Link* stalled = nullptr;
    const Path* other = nullptr;
    LargeFrames large(limits_);
    for (Ledger::Kept& kept : ledger_.kept()) {
        const auto time = large.time(kept);
        if (stalled == nullptr && now >= kept.sent + time + long_max_wait) {
            other = other_than(kept.path);
            if (other != nullptr && other->heard > kept.sent) stalled = kept.path;
        }
        if (stalled == nullptr || kept.path != stalled) continue;
        ++traffic_->resent;
        put(*other, kept);
    }
    turn_from(stalled);
}

// What comes next goes out on another path.
void Delivery::turn_from(const Link* link) {
    Path* path = find(link);
    if (path != nullptr && path == &paths_.back()) std::rotate(paths_.begin(), paths_.end() - 1, paths_.end());
}

}  // namespace edgespec::net
