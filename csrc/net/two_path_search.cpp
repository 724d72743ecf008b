// How the connection over two paths finds a server: at first, after a path has failed, and when the link is lost.
#include <algorithm>

#include "net/two_path_connection.hpp"

namespace edgespec::net {

void TwoPathConnection::approach(Path& path, std::size_t address) {
    path.address = address;
    path.dial(servers_[address], dial_within(path));
    if (lost()) approach_beside(limits_.dial_beside);
}

// A server that is out of reach says nothing, and the link may be back the next moment: an attempt that has come to
// nothing yet is joined by another, so that one always begins soon after.
void TwoPathConnection::approach_beside(std::chrono::milliseconds after) {
    beside_.expires_after(after);
    beside_.async_wait([this](ErrorStatus error) {
        if (error || !lost() || closing_) return;
        const auto is = [this](Path::Stage stage) {
            return std::find_if(paths_.begin(), paths_.end(), [&](const Path& path) { return path.stage() == stage; });
        };
        const auto idle = is(Path::Stage::kIdle);
        if (is(Path::Stage::kDialling) == paths_.end() && is(Path::Stage::kGreeting) == paths_.end()) return;
        idle == paths_.end() ? approach_beside(limits_.dial_beside / 4) : approach(*idle, next_server());
    });
}

void TwoPathConnection::failed(Path& path, const std::string& reason) {
    path.drop();
    note(reason);
    ++path.failures;
    Path& rest = other(path);
    if (!reached_) {
        if (path.address + 1 < servers_.size()) return approach(path, path.address + 1);
        return die(reason);
    }
    if (up(rest)) return limits_.hedge ? approach_after(path, rest.address, path.failures) : void();
    lose(reason);
    if (rest.stage() == Path::Stage::kWelcomed) return begin(rest);  // the OPEN was not acknowledged yet
    if (rest.stage() == Path::Stage::kIdle || rest.stage() == Path::Stage::kPausing) {
        rest.drop();
        search(path);
    }
}

// The link is lost: try the servers in turn, the last one first; pause after each round.
void TwoPathConnection::search(Path& path) {
    const unsigned failed_rounds = outage_.failed_rounds(servers_.size());
    approach_after(path, next_server(), failed_rounds);
}

// At once, or after failures with a pause.
void TwoPathConnection::approach_after(Path& path, std::size_t address, unsigned failures) {
    if (failures == 0) return approach(path, address);
    path.pause(outage_.pause(failures), [this, &path, address] {
        const Path& rest = other(path);  // the servers may have changed meanwhile
        approach(path, up(rest) ? rest.address : std::min(address, servers_.size() - 1));
    });
}

void TwoPathConnection::lose(const std::string& reason) {
    if (lost()) return;
    outage_.begin();
    inbox_.push(Lost{reason});
}

void TwoPathConnection::found(std::size_t address) {
    if (lost()) inbox_.push(Reconnected{outage_.end(), servers_[address]});
}

std::chrono::milliseconds TwoPathConnection::dial_within(const Path& path) const {
    if (!reached_) return limits_.first_contact / static_cast<int>(servers_.size());
    const std::chrono::milliseconds three(static_cast<int>(3 * std::max(0.0, counters_->rtt_ms.load())));
    const auto longer = three * (1 << std::min(path.failures, 4u));
    return std::clamp(longer, limits_.dial_at_least, limits_.dial_at_most);
}

}  // namespace edgespec::net
