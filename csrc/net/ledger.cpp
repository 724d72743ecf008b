#include "net/ledger.hpp"

#include <cstring>

namespace edgespec::net {

Ledger::Kept& Ledger::keep(Frame frame) {
    if (kept_bytes_ + frame.size() > limits_.kept_bytes) throw LedgerFull("too much waits to be acknowledged");
    kept_bytes_ += frame.size();
    wire::Header header = wire::read_header(frame.data());
    header.sequence = ++sent_;
    std::memcpy(frame.data(), &header, wire::kHeaderBytes);
    Kept& kept = kept_.emplace_back();
    kept.sequence = sent_;
    kept.frame = std::move(frame);
    return kept;
}

std::optional<Clock::time_point> Ledger::acknowledged(std::uint32_t sequence) {
    if (sequence > sent_) throw wire::BadFrame("a frame acknowledges what was never sent");
    std::optional<Clock::time_point> sent;
    while (!kept_.empty() && kept_.front().sequence <= sequence) {
        const Kept& kept = kept_.front();
        sent = kept.times == 1 ? std::optional(kept.sent) : std::nullopt;
        kept_bytes_ -= kept.frame.size();
        kept_.pop_front();
    }
    return sent;
}

bool Ledger::take(std::uint32_t sequence, Received&& received, const Deliver& deliver) {
    if (sequence <= received_ || early_.count(sequence) != 0) return false;
    if (sequence != received_ + 1) {
        if (early_.size() >= limits_.early) throw wire::BadFrame("too many frames came before one that is missing");
        if (early_bytes_ + received.frame_bytes > limits_.early_bytes) {
            throw LedgerFull("too much came before a frame that is missing");
        }
        early_bytes_ += received.frame_bytes;
        early_.emplace(sequence, copied(std::move(received)));
        return true;
    }
    ++received_;
    deliver(std::move(received));
    for (auto next = early_.begin(); next != early_.end() && next->first == received_ + 1; next = early_.begin()) {
        Received waited = std::move(next->second);
        early_.erase(next);
        early_bytes_ -= waited.frame_bytes;
        ++received_;
        deliver(std::move(waited));
    }
    return true;
}

}  // namespace edgespec::net
