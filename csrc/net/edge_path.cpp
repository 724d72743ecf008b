#include "net/edge_path.hpp"

namespace edgespec::net {

void EdgePath::dial(const Address& server, std::chrono::milliseconds within) {
    drop();
    enter(Stage::kDialling);
    dial_ = std::make_shared<Dial>(io_, setup_.tls);
    dial_->start(server, within,
                 [this, attempt = attempt_](std::unique_ptr<Transport> transport, const std::string& reason) {
                     if (attempt != attempt_ || finished_) return;
                     transport ? greet(std::move(transport)) : owner_.failed(*this, reason);
                 });
}

void EdgePath::greet(std::unique_ptr<Transport> transport) {
    dial_.reset();
    enter(Stage::kGreeting);
    link_ = std::make_shared<Link>(io_, std::move(transport), setup_.pool, setup_.limits, setup_.counters);
    link_->set_max_payload(kFirstPayload);
    const auto live = [this, attempt = attempt_] { return attempt == attempt_ && !finished_; };
    link_->start(
        [this, live](Received&& received) {
            if (live()) owner_.heard(*this, std::move(received));
        },
        [this, live](const std::string& reason) {
            if (live()) owner_.failed(*this, reason);
        },
        [this, live](const wire::Header& header, Received& received) {
            if (live()) owner_.heard_of_session(*this, header, std::move(received));
            return true;
        });
    link_->send(setup_.hello);
    timer_.expires_after(setup_.greet_within);
    timer_.async_wait([this, live](ErrorStatus error) {
        if (!error && live()) owner_.failed(*this, "the server did not answer in time");
    });
}

void EdgePath::pause(std::chrono::microseconds pause, std::function<void()> then) {
    enter(Stage::kPausing);
    timer_.expires_after(pause);
    timer_.async_wait([this, then = std::move(then), attempt = attempt_](ErrorStatus error) {
        if (!error && attempt == attempt_ && !finished_) then();
    });
}

void EdgePath::enter(Stage stage) {
    stage_ = stage;
    owner_.entered();
}

void EdgePath::drop() {
    ++attempt_;
    enter(Stage::kIdle);
    timer_.cancel();
    if (dial_) dial_->cancel();
    dial_.reset();
    if (!link_) return;
    owner_.leaves(*link_);
    asio::post(io_, [link = std::move(link_)] { link->end("left"); });  // it may be calling us
    link_.reset();
}

void EdgePath::finish() {
    finished_ = true;
    if (link_) link_->finish();
    if (dial_) dial_->cancel();
    timer_.cancel();
}

}  // namespace edgespec::net
