// One session's delivery, at either end: every numbered frame arrives once and in order, over one path or over two.
//
// What came is acknowledged, nearly at once while there are two paths. What is not acknowledged in time goes out again
// on the other path (a hedge), within a budget, and what follows goes there too. What was on a path that is gone goes
// out again on another, now or when there is one. All of it on the I/O thread.
#pragma once

#include "net/ledger.hpp"
#include "net/link.hpp"

namespace edgespec::net {

class Delivery : public std::enable_shared_from_this<Delivery> {
 public:
    using OnMessage = std::function<void(Received&&)>;
    using OnFull = std::function<void(const std::string& reason)>;

    Delivery(asio::io_context& io, DeliveryLimits limits, OnMessage on_message, OnFull on_full,
             std::shared_ptr<Traffic> traffic = std::make_shared<Traffic>());

    void send(Frame frame);

    // A path more: the peer knows the session on it as `channel`. What has no path goes out there. A spare path is
    // not used before the other is late.
    void attach(std::shared_ptr<Link> link, std::uint16_t channel, bool spare = false);
    void detach(const Link& link);
    bool goes_over(const Link& link) const;

    // The peer resumed on this path, having received everything up to `last_sequence`; the rest goes out on it again,
    // as far as the link sends. What is sent again costs the peer's device frames of its rate.
    void replay(const Link& link, std::uint32_t last_sequence);

    // The peer has everything up to there. Throws BadFrame.
    void acknowledged(std::uint32_t sequence);

    // A frame of the session came by this path. Throws BadFrame.
    void take(const Link& link, const wire::Header& header, Received&& received);

    bool away() const { return paths_.empty(); }
    bool begun() const { return begun_; }  // the peer has acknowledged the first frame
    std::uint32_t received() const { return ledger_.received(); }
    // Smoothed, of the path by which the peer was heard last; below 0: nothing is known yet. From any thread.
    double link_rtt_ms() const { return link_rtt_ms_; }

    // No more is sent or delivered.
    void stop();

 private:
    struct Path {
        std::shared_ptr<Link> link;
        std::uint16_t channel;
        Clock::time_point heard{};  // of the session, by this path
    };

    void fill(const LedgerFull& full);
    Path* find(const Link* link);
    Path* other_than(const Link* link);
    void put(const Path& path, Frame frame);
    void put(const Path& path, Ledger::Kept& kept);
    void put_stranded();
    void acknowledge(const Path& path);
    void owe();
    void arm();
    void hedge(Clock::time_point now);
    void leave_stalled(Clock::time_point now);
    void turn_from(const Link* link);
    Clock::duration max_wait() const;
    Clock::duration long_max_wait() const;

    DeliveryLimits limits_;
    OnMessage on_message_;
    OnFull on_full_;
    std::shared_ptr<Traffic> traffic_;
    Ledger ledger_;
    std::vector<Path> paths_;  // the one in use is the last
    asio::steady_timer hedger_;
    asio::steady_timer acknowledger_;
    double budget_;
    double rtt_ms_ = -1;  // of acknowledgements, while there are two paths
    std::atomic<double> link_rtt_ms_{-1.0};
    bool begun_ = false;
    bool hedging_ = false;
    bool acknowledging_ = false;
    bool owing_ = false;
    bool stopped_ = false;
};

}  // namespace edgespec::net
