// One end's record of a session's numbered frames: what it sent and has not seen acknowledged, what it received and in
// which order. The numbers belong to the session, so they go on when its connections do not. Pure: no I/O, no clock.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <optional>

#include "net/frame.hpp"
#include "net/limits.hpp"
#include "net/receiver.hpp"

namespace edgespec::net {

class Link;

// More is unacknowledged, or waits for a frame that is missing, than this end may keep.
struct LedgerFull : std::runtime_error {
    using std::runtime_error::runtime_error;
};

class Ledger {
 public:
    using Deliver = std::function<void(Received&&)>;

    // A frame that was sent, or waits to be.
    struct Kept {
        std::uint32_t sequence = 0;
        Frame frame;
        Clock::time_point sent{};
        const Link* path = nullptr;  // where it went out last; null when that path is gone
        unsigned times = 0;          // it went out
        bool hedged = false;         // it went out on two paths, or might not
    };

    explicit Ledger(LedgerLimits limits = {}) : limits_(limits) {}

    // Numbers a frame and keeps it until it is acknowledged. Throws LedgerFull.
    Kept& keep(Frame frame);

    // The peer has every frame up to this number. Gives the time at which the last of those it had not acknowledged
    // before was sent, if it went out once: a round trip's beginning. Throws BadFrame when none so numbered was sent.
    std::optional<Clock::time_point> acknowledged(std::uint32_t sequence);

    std::deque<Kept>& kept() { return kept_; }

    // Delivers a numbered frame, and those that waited for it; or lets it wait. False: it came before.
    // Throws BadFrame when too many would wait, and LedgerFull when these are too large.
    bool take(std::uint32_t sequence, Received&& received, const Deliver& deliver);

    // Every frame up to this number has been received.
    std::uint32_t received() const { return received_; }

 private:
    LedgerLimits limits_;
    std::deque<Kept> kept_;
    std::size_t kept_bytes_ = 0;
    std::uint32_t sent_ = 0;
    std::uint32_t received_ = 0;
    std::map<std::uint32_t, Received> early_;
    std::size_t early_bytes_ = 0;
};

}  // namespace edgespec::net
