// One session's delivery, at either end: every numbered frame arrives once and in order, over one path or over two.
//
// What came is acknowledged, nearly at once while there are two paths. What is not acknowledged in time goes out again
// on the other path (a hedge), within a budget, and what follows goes there too. What was on a path that is gone goes
// out again on another, now or when there is one. All of it on the I/O thread.
#pragma once

#include "net/ledger.hpp"

namespace edgespec::net {

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

// What a delivery counts; read from any thread.
struct Traffic {
    std::atomic<std::uint64_t> sent{0};     // numbered frames
    std::atomic<std::uint64_t> hedged{0};   // of these, sent again because no acknowledgement came in time
    std::atomic<std::uint64_t> resent{0};   // sent again because their path was gone, or stalled
    std::atomic<std::uint64_t> repeats{0};  // that came twice
};

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

    // The peer resumed on this path, having received everything up to `last_sequence`; the rest goes out on it again.
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
