// Hints that a GPU leaves in host memory while its deeper layers still run: a thread watches for them, and sends them.
//
// The memory is cells, [2 forwards][places][exits]: a cell is written whole, its sequence number last, by a release
// store at system scope (kernels/exit_verdict_triton.py, or `publish` here). What a hint must be to be worth sending is
// said before the launch, by `arm`. Forwards take turns with the two halves, so that one may run while the last one's
// hints are read still. Nothing here waits for the GPU or knows Python, and the books never grow.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "net/frame.hpp"

namespace edgespec::net {

// What an exit says of one session, as written by a GPU.
struct HintCell {
    std::uint32_t sequence;  // of the forward; what follows is whole once it is here
    std::int32_t length;     // nodes on the path
    std::int32_t end;        // the path's last row, counted from the session's first, which is 0: the committed text
    std::int32_t token;      // behind the path; below 0: the exit's logits are no numbers
    float confidence;
    std::int32_t unused[3];
};
static_assert(sizeof(HintCell) == 32, "kernels count on it");

// Writes a cell as a kernel does.
void publish(HintCell& cell, std::uint32_t sequence, std::int32_t length, std::int32_t end, std::int32_t token,
             float confidence);

// A session that listens. references: what its rows are called on the wire; 0: the edge has no name for it.
struct HintWatch {
    std::uint64_t session = 0;
    std::uint32_t place = 0;  // of its cells
    std::uint32_t base_length = 0;
    std::uint16_t turn = 0;
    float threshold = 0;
    const std::uint32_t* references = nullptr;
    std::size_t rows = 0;
};

class HintMailbox {
 public:
    // False: the session is gone. From the watching thread.
    using Send = std::function<bool(std::uint64_t session, Frame frame)>;

    // cells: 2 x places x layers.size() of them, zeros, which must outlive this. layers: of the exits, rising. rows: of
    // all sessions of a forward, at most.
    HintMailbox(HintCell* cells, std::size_t places, std::vector<std::uint16_t> layers, std::size_t rows, Send send);
    ~HintMailbox();
    HintMailbox(const HintMailbox&) = delete;
    HintMailbox& operator=(const HintMailbox&) = delete;

    // Before the launch of forward `sequence`, which is above 0 and odd and even in turns: hints of these sessions are
    // wanted; whatever was of the forward before the last is not any more. Throws std::invalid_argument for more places
    // or rows than there are.
    void arm(std::uint32_t sequence, const std::vector<HintWatch>& watches);

    // The forward's verdict is known: its hints are void. How many were sent, for each watch as armed.
    std::vector<std::uint32_t> retire(std::uint32_t sequence);

    void close();

 private:
    struct Watched {
        HintWatch watch;
        std::uint32_t reference = 0;  // said last of this forward
        std::int32_t token = -1;
        std::uint32_t sent = 0;
    };
    struct Half {
        std::atomic<std::uint32_t> sequence{0};  // 0: nothing is wanted
        std::atomic<std::size_t> places{0};      // that may be written to, from the first on
        std::vector<Watched> watched;            // guarded by mutex_; so are the next
        std::vector<std::uint32_t> references;   // of all rows
        std::vector<std::uint32_t> read;         // by the watching thread alone: the last sequence read, of each cell
    };

    HintCell& cell(std::uint32_t sequence, std::size_t place, std::size_t exit) const;
    void watch();
    bool look(Half& half);
    struct Outgoing {
        std::size_t watched;  // index
        std::uint64_t session;
        Frame frame;
    };

    std::optional<Outgoing> take(Half& half, std::uint32_t sequence, std::size_t place, std::size_t exit);
    void send(Half& half, std::uint32_t sequence, Outgoing&& hint);

    HintCell* const cells_;
    const std::size_t places_;
    const std::vector<std::uint16_t> layers_;
    const std::size_t rows_;
    const Send send_;
    Half halves_[2];
    std::mutex mutex_;
    std::condition_variable armed_;
    bool closed_ = false;  // guarded by mutex_
    std::thread thread_;
};

}  // namespace edgespec::net
