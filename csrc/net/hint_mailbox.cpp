#include "net/hint_mailbox.hpp"

#include <algorithm>
#include <stdexcept>

namespace edgespec::net {

namespace {

constexpr std::uint16_t kAnyChannel = 1;  // the listener fills in the session's own

std::uint32_t clock_us() {
    const auto now = Clock::now().time_since_epoch();
    return static_cast<std::uint32_t>(std::chrono::duration_cast<std::chrono::microseconds>(now).count());
}

}  // namespace

void publish(HintCell& cell, std::uint32_t sequence, std::int32_t length, std::int32_t end, std::int32_t token,
             float confidence) {
    cell.length = length;
    cell.end = end;
    cell.token = token;
    cell.confidence = confidence;
    __atomic_store_n(&cell.sequence, sequence, __ATOMIC_RELEASE);
}

HintMailbox::HintMailbox(HintCell* cells, std::size_t places, std::vector<std::uint16_t> layers, std::size_t rows,
                         Send send)
    : cells_(cells), places_(places), layers_(std::move(layers)), rows_(rows), send_(std::move(send)) {
    for (Half& half : halves_) {
        half.watched.reserve(places_);
        half.references.reserve(rows_);
        half.read.assign(places_ * layers_.size(), 0);
    }
    thread_ = std::thread([this] { watch(); });
}

HintMailbox::~HintMailbox() { close(); }

void HintMailbox::close() {
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        closed_ = true;
        for (Half& half : halves_) half.sequence.store(0, std::memory_order_release);
    }
    armed_.notify_one();
    if (thread_.joinable()) thread_.join();
}

HintCell& HintMailbox::cell(std::uint32_t sequence, std::size_t place, std::size_t exit) const {
    return cells_[((sequence & 1) * places_ + place) * layers_.size() + exit];
}

void HintMailbox::arm(std::uint32_t sequence, const std::vector<HintWatch>& watches) {
    std::size_t rows = 0, places = 0;
    for (const HintWatch& watch : watches) {
        rows += watch.rows;
        places = std::max<std::size_t>(places, watch.place + 1u);
    }
    if (sequence == 0) throw std::invalid_argument("a forward's sequence number is above 0");
    if (rows > rows_ || places > places_ || watches.size() > places_) {
        throw std::invalid_argument("more places or rows than the mailbox has");
    }
    Half& half = halves_[sequence & 1];
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (closed_) return;
        half.sequence.store(0, std::memory_order_release);
        half.watched.clear();
        half.references.clear();
        for (const HintWatch& watch : watches) {
            HintWatch own = watch;
            own.references = half.references.data() + half.references.size();  // reserved: it does not move
            half.references.insert(half.references.end(), watch.references, watch.references + watch.rows);
            half.watched.push_back({own});
        }
        half.places.store(places, std::memory_order_relaxed);
        half.sequence.store(watches.empty() ? 0 : sequence, std::memory_order_release);
    }
    armed_.notify_one();
}

std::vector<std::uint32_t> HintMailbox::retire(std::uint32_t sequence) {
    std::vector<std::uint32_t> sent;
    Half& half = halves_[sequence & 1];
    const std::lock_guard<std::mutex> lock(mutex_);
    if (half.sequence.load(std::memory_order_relaxed) != sequence) return sent;
    half.sequence.store(0, std::memory_order_release);
    for (const Watched& watched : half.watched) sent.push_back(watched.sent);
    return sent;
}

// Spins while hints may come: what wakes a sleeping thread takes longer than a hint may.
void HintMailbox::watch() {
    const auto wanted = [this] {
        return std::any_of(std::begin(halves_), std::end(halves_),
                           [](const Half& half) { return half.sequence.load(std::memory_order_acquire) != 0; });
    };
    while (true) {
        {
            std::unique_lock<std::mutex> lock(mutex_);
            armed_.wait(lock, [&] { return closed_ || wanted(); });
            if (closed_) return;
        }
        while (wanted()) {
            const bool first = look(halves_[0]), second = look(halves_[1]);
            if (!first && !second) std::this_thread::yield();
        }
    }
}

// Reads what has come since the last look; false: nothing. Takes the lock only for what has.
bool HintMailbox::look(Half& half) {
    const std::uint32_t sequence = half.sequence.load(std::memory_order_acquire);
    if (sequence == 0) return false;
    const std::size_t places = half.places.load(std::memory_order_relaxed);
    bool found = false;
    for (std::size_t exit = 0; exit < layers_.size(); ++exit) {
        for (std::size_t place = 0; place < places; ++place) {
            std::uint32_t& read = half.read[place * layers_.size() + exit];
            if (read == sequence) continue;
            if (__atomic_load_n(&cell(sequence, place, exit).sequence, __ATOMIC_ACQUIRE) != sequence) continue;
            read = sequence;
            found = true;
            if (auto hint = take(half, sequence, place, exit)) send(half, sequence, std::move(*hint));
        }
    }
    return found;
}

// A cell is whole: its hint, if anybody listens, it is sure enough, and says something new.
std::optional<HintMailbox::Outgoing> HintMailbox::take(Half& half, std::uint32_t sequence, std::size_t place,
                                                       std::size_t exit) {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (half.sequence.load(std::memory_order_relaxed) != sequence) return std::nullopt;
    const auto found = std::find_if(half.watched.begin(), half.watched.end(),
                                    [place](const Watched& watched) { return watched.watch.place == place; });
    if (found == half.watched.end()) return std::nullopt;
    const HintWatch& watch = found->watch;
    const HintCell& hint = cell(sequence, place, exit);
    if (hint.token < 0 || !(hint.confidence >= watch.threshold)) return std::nullopt;
    if (hint.end < 0 || static_cast<std::size_t>(hint.end) >= watch.rows) return std::nullopt;
    const std::uint32_t reference = watch.references[hint.end];
    if (reference == 0 || (reference == found->reference && hint.token == found->token)) return std::nullopt;
    found->reference = reference;
    found->token = hint.token;
    ++found->sent;
    const wire::Hint message{watch.base_length, reference,  hint.token, std::clamp(hint.confidence, 0.0f, 1.0f),
                             layers_[exit],     watch.turn, clock_us()};
    return Outgoing{static_cast<std::size_t>(found - half.watched.begin()), watch.session,
                    frame_of(kAnyChannel, message)};
}

// Without the lock: `arm` and `retire`, which the verification calls, must not wait for a socket.
void HintMailbox::send(Half& half, std::uint32_t sequence, Outgoing&& hint) {
    if (send_(hint.session, std::move(hint.frame))) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (half.sequence.load(std::memory_order_relaxed) == sequence) --half.watched[hint.watched].sent;
}

}  // namespace edgespec::net
