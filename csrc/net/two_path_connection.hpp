// The connection that outlives its links (resilient_connection.hpp), over two paths: one carries the session, the other
// is held warm beside it.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "net/edge_path.hpp"
#include "net/loop.hpp"
#include "net/outage.hpp"
#include "net/resilient_connection.hpp"
#include "net/servers.hpp"

namespace edgespec::net {

class TwoPathConnection final : public ResilientConnection, private EdgePathOwner {
 public:
    TwoPathConnection(std::vector<Address> addresses, Frame hello, ResilientConnectionLimits limits,
                      std::shared_ptr<Tls> tls);
    ~TwoPathConnection() override { end(); }

    void open(Frame open) override;
    void send(Frame frame) override;
    void ask(Frame frame) override;
    void move() override;
    void set_servers(std::vector<Address> others) override;
    void wake() override {
        loop_.run([this] { tell(Woken{}); });
    }
    void await(bool verdicts) override { counters_->awaited = verdicts; }
    void close() override;
    void end() override;

    Inbox<Arrival>& inbox() override { return inbox_; }
    bool wait_until(Clock::time_point deadline) override { return loop_.wait_until(deadline); }
    bool dead() const override { return dead_; }
    bool lost() const override { return outage_.lasts(); }
    unsigned paths() const override { return carrying_; }
    unsigned welcomed() const override { return welcomed_; }
    std::string reason() const override {
        const std::lock_guard<std::mutex> lock(mutex_);
        return reason_;
    }
    Address address() const override { return servers_.answered(); }
    const Counters& counters() const override { return *counters_; }
    const Traffic& traffic() const override { return *traffic_; }

 private:
    using Path = EdgePath;

    void heard(Path& path, Received&& received) override;
    void heard_of_session(Path& path, const wire::Header& header, Received&& received) override;
    void failed(Path& path, const std::string& reason) override;
    void entered() override;
    void leaves(const Link& link) override {
        if (delivery_) delivery_->detach(link);
    }

    void approach(Path& path, std::size_t address);
    void hear_welcome(Path& path, Received&& received);
    void hear_other_target(Path& path, std::string_view target_id);
    void begin(Path& path);
    void carry(Path& path);
    void warm(const Path& path);
    void forgotten(Path& path);
    void stray(const Path& path);
    void search(Path& path);
    std::size_t next_server() { return outage_.next_server(servers_.at(), servers_.size()); }
    void approach_beside(std::chrono::milliseconds after);
    void approach_after(Path& path, std::size_t address, unsigned failures);
    void lose(const std::string& reason);
    void tell(Arrival arrival) {
        if (!closing_) inbox_.push(std::move(arrival));
    }
    void found(std::size_t address);
    void forget();
    void die(const std::string& reason);
    void note(const std::string& reason) {
        const std::lock_guard<std::mutex> lock(mutex_);
        reason_ = reason;
    }

    Path& other(const Path& path) { return &path == &paths_[0] ? paths_[1] : paths_[0]; }
    bool up(const Path& path) const {
        return path.stage() == Path::Stage::kCarrying || (!delivery_ && path.stage() == Path::Stage::kWelcomed);
    }
    std::chrono::milliseconds dial_within(const Path& path) const;

    asio::io_context io_;
    std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work_;
    Servers servers_;
    const ResilientConnectionLimits limits_;
    const std::shared_ptr<Counters> counters_ = std::make_shared<Counters>();
    const EdgePathSetup setup_;
    const std::shared_ptr<Traffic> traffic_ = std::make_shared<Traffic>();
    Inbox<Arrival> inbox_;
    std::array<Path, 2> paths_;
    std::shared_ptr<Delivery> delivery_;  // the session's, once it is open
    wire::SessionId session_id_{};
    std::uint16_t channel_ = 0;  // of the session; another each time it is opened
    bool reached_ = false;       // some server has welcomed us
    std::string target_id_;      // of the first that did
    unsigned strays_ = 0;        // since the session was opened
    bool closing_ = false;
    Outage outage_;
    asio::steady_timer beside_;
    std::atomic<bool> dead_{false};
    std::atomic<unsigned> carrying_{0};
    std::atomic<unsigned> welcomed_{0};
    mutable std::mutex mutex_;  // guards reason_
    std::string reason_;
    Loop<Inbox<Arrival>> loop_{io_, inbox_};
};

}  // namespace edgespec::net
