// The mailbox of hints: what a writer releases is sent while it goes on writing, once, if it is wanted; and no later.
#include <future>
#include <thread>

#include "check.hpp"
#include "net/hint_mailbox.hpp"
#include "wire/codec.hpp"

using namespace edgespec;
using net::HintCell;
using net::HintMailbox;
using net::HintWatch;

namespace {

constexpr std::size_t kPlaces = 4, kRows = 64;
const std::vector<std::uint16_t> kLayers{8, 16, 24};

// What was sent, for a test to wait for.
struct Sent {
    struct One {
        std::uint64_t session;
        wire::Hint hint;
    };

    bool take(std::uint64_t session, net::Frame frame) {
        const wire::Parsed parsed = wire::next_frame(frame.data(), frame.size(), 1 << 16);
        const wire::Hint hint = std::get<wire::Hint>(wire::decode_message(parsed.header, parsed.payload));
        const std::lock_guard<std::mutex> lock(mutex);
        all.push_back({session, hint});
        arrived.notify_all();
        return true;
    }
    std::vector<One> wait(std::size_t count) {
        std::unique_lock<std::mutex> lock(mutex);
        arrived.wait(lock, [&] { return all.size() >= count; });
        return all;
    }

    std::mutex mutex;
    std::condition_variable arrived;
    std::vector<One> all;
};

struct Rig {
    Sent sent;
    std::vector<HintCell> cells = std::vector<HintCell>(2 * kPlaces * kLayers.size());
    HintMailbox mailbox{cells.data(), kPlaces, kLayers, kRows, [this](std::uint64_t session, net::Frame frame) {
                            return sent.take(session, std::move(frame));
                        }};

    void publish(std::uint32_t sequence, std::size_t place, std::size_t exit, std::int32_t length, std::int32_t end,
                 std::int32_t token, float confidence) {
        HintCell& cell = cells[((sequence & 1) * kPlaces + place) * kLayers.size() + exit];
        net::publish(cell, sequence, length, end, token, confidence);
    }
};

const std::uint32_t kReferences[] = {0x80000010, 5, 0, 7};

HintWatch watch_of(std::uint64_t session, std::uint32_t place, float threshold = 0.5f) {
    return {session, place, 16, 3, threshold, kReferences, 4};
}

void a_released_cell_becomes_a_hint() {
    Rig rig;
    rig.mailbox.arm(1, {watch_of(40, 0), watch_of(41, 2)});
    rig.publish(1, 2, 1, 1, 3, 99, 0.75f);
    const auto all = rig.sent.wait(1);
    const wire::Hint& hint = all[0].hint;
    CHECK(all[0].session == 41 && hint.base_length == 16 && hint.node == 7 && hint.token == 99);
    CHECK(hint.confidence == 0.75f && hint.layer == 16 && hint.turn == 3);
    CHECK(rig.mailbox.retire(1) == (std::vector<std::uint32_t>{0, 1}));
}

// A socket may take long: the verification that goes on meanwhile does not wait for it.
void a_slow_socket_holds_nobody_up() {
    std::vector<HintCell> cells(2 * kPlaces * kLayers.size());
    std::promise<void> sending, go_on;
    HintMailbox mailbox{cells.data(), kPlaces, kLayers, kRows, [&](std::uint64_t, net::Frame) {
                            sending.set_value();
                            go_on.get_future().wait();
                            return true;
                        }};
    mailbox.arm(2, {watch_of(1, 0)});
    net::publish(cells[0], 2, 0, 0, 9, 0.9f);
    sending.get_future().wait();
    mailbox.arm(3, {watch_of(1, 0)});
    CHECK(mailbox.retire(2) == std::vector<std::uint32_t>{1});
    go_on.set_value();
}

// Each of these must not be sent; what is sent afterwards says that they were looked at.
void what_is_not_worth_sending_is_not_sent() {
    Rig rig;
    rig.mailbox.arm(2, {watch_of(1, 0), watch_of(2, 1), watch_of(3, 2), watch_of(4, 3)});
    rig.publish(2, 0, 0, 0, 0, 9, 0.4f);   // not sure enough
    rig.publish(2, 1, 0, 1, 2, 9, 0.9f);   // the edge has no name for the path's end
    rig.publish(2, 2, 0, 0, 0, -1, 0.9f);  // no numbers
    rig.publish(2, 3, 0, 9, 4, 9, 0.9f);   // a row that is not the session's
    rig.publish(1, 0, 1, 0, 0, 9, 0.9f);   // another forward's
    rig.publish(2, 0, 2, 0, 0, 8, 0.9f);
    CHECK(rig.sent.wait(1).size() == 1);
    rig.publish(2, 0, 1, 0, 0, 7, 0.9f);
    CHECK(rig.sent.wait(2).size() == 2);
    CHECK(rig.mailbox.retire(2) == (std::vector<std::uint32_t>{2, 0, 0, 0}));
}

void a_deeper_exit_that_says_the_same_is_not_heard() {
    Rig rig;
    rig.mailbox.arm(1, {watch_of(1, 0)});
    rig.publish(1, 0, 0, 0, 0, 9, 0.6f);
    rig.publish(1, 0, 1, 0, 0, 9, 0.8f);
    rig.publish(1, 0, 2, 1, 1, 9, 0.9f);
    const auto all = rig.sent.wait(2);
    CHECK(all[0].hint.node == 0x80000010 && all[1].hint.node == 5);
    CHECK(rig.mailbox.retire(1) == std::vector<std::uint32_t>{2});
}

void after_the_verdict_nothing_is_sent() {
    Rig rig;
    rig.mailbox.arm(1, {watch_of(1, 0)});
    CHECK(rig.mailbox.retire(1) == std::vector<std::uint32_t>{0});
    rig.publish(1, 0, 0, 0, 0, 9, 0.9f);
    rig.mailbox.arm(2, {watch_of(1, 0)});
    rig.publish(2, 0, 0, 0, 0, 8, 0.9f);
    CHECK(rig.sent.wait(1)[0].hint.token == 8);
    CHECK(rig.mailbox.retire(1).empty() && rig.mailbox.retire(2) == std::vector<std::uint32_t>{1});
}

void a_forward_may_begin_before_the_last_ones_hints_are_read() {
    Rig rig;
    rig.mailbox.arm(7, {watch_of(1, 0)});
    rig.mailbox.arm(8, {watch_of(1, 0)});
    rig.publish(7, 0, 2, 0, 0, 70, 0.9f);
    rig.publish(8, 0, 0, 0, 0, 80, 0.9f);
    CHECK(rig.sent.wait(2).size() == 2);
    CHECK(rig.mailbox.retire(7) == std::vector<std::uint32_t>{1});
    CHECK(rig.mailbox.retire(8) == std::vector<std::uint32_t>{1});
}

void what_does_not_fit_is_refused() {
    Rig rig;
    std::vector<std::uint32_t> many(kRows + 1, 1);
    CHECK(throws<std::invalid_argument>([&] { rig.mailbox.arm(0, {watch_of(1, 0)}); }));
    CHECK(throws<std::invalid_argument>([&] { rig.mailbox.arm(1, {watch_of(1, kPlaces)}); }));
    CHECK(throws<std::invalid_argument>([&] { rig.mailbox.arm(1, {{1, 0, 16, 3, 0.5f, many.data(), many.size()}}); }));
}

// As a server does it: forward after forward, a thread that writes as a GPU would, and never a torn cell.
void many_forwards_are_heard_whole() {
    constexpr std::uint32_t kForwards = 3000;
    Rig rig;
    std::size_t counted = 0;
    for (std::uint32_t forward = 1; forward <= kForwards; ++forward) {
        rig.mailbox.arm(forward, {watch_of(1, 0), watch_of(2, 1)});
        std::thread gpu([&] {
            for (std::size_t exit = 0; exit < kLayers.size(); ++exit) {
                for (std::size_t place = 0; place < 2; ++place) {
                    const auto token = static_cast<std::int32_t>(forward * 6 + exit * 2 + place);
                    rig.publish(forward, place, exit, 0, 0, token, 0.5f + 0.5f / static_cast<float>(token));
                }
            }
        });
        gpu.join();
        for (const std::uint32_t sent : rig.mailbox.retire(forward)) counted += sent;
    }
    const auto all = rig.sent.wait(counted);
    CHECK(all.size() == counted && counted > 0);
    for (const Sent::One& one : all) {
        CHECK(one.hint.confidence == 0.5f + 0.5f / static_cast<float>(one.hint.token));
        CHECK(static_cast<std::uint64_t>(one.hint.token % 2 + 1) == one.session);
    }
}

}  // namespace

int main() {
    a_released_cell_becomes_a_hint();
    a_slow_socket_holds_nobody_up();
    what_is_not_worth_sending_is_not_sent();
    a_deeper_exit_that_says_the_same_is_not_heard();
    after_the_verdict_nothing_is_sent();
    a_forward_may_begin_before_the_last_ones_hints_are_read();
    what_does_not_fit_is_refused();
    many_forwards_are_heard_whole();
}
