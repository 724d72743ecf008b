// What followed the last tokens of a text where they occurred before: an index of texts of token ids, for guessing.
//
// A ring of tokens. Each position is chained to the one before it whose last 8, 4, 2 or 1 tokens have the same hash, as
// in LZ77. A look-up walks the newest entries of the longest chain that matches, compares the tokens themselves, and
// counts what followed. So it costs no more in a large index than in a small one, the oldest tokens fall out by
// themselves, and no content of it can do harm.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace edgespec::lookup {

constexpr std::int32_t kTextEnd = -1;  // between two texts; no token id is below 0

struct Choice {
    std::int32_t token;
    std::uint32_t count;
};

// length: tokens that matched, 0 where nothing did. total: occurrences that were looked at. choices: what followed
// them, the most frequent first, the newest first where counts are equal.
struct Found {
    std::size_t length = 0;
    std::uint32_t total = 0;
    std::vector<Choice> choices;
};

class TextIndex {
 public:
    // Holds the newest `most_tokens`, rounded down to a power of two, and takes memory as it grows. shortest_match: 1
    // or more; shorter matches find nothing and take no room.
    TextIndex(std::size_t most_tokens, std::size_t shortest_match);

    // The present text goes on with these; an id below 0 ends it.
    void add(const std::int32_t* tokens, std::size_t count);
    void clear();

    // What followed the end of `context` before, by the longest match, of up to kLongestMatch tokens.
    Found find(const std::int32_t* context, std::size_t count) const;

    std::size_t size() const { return held_; }
    std::size_t bytes() const;

    static std::size_t bytes_per_token(std::size_t shortest_match);

    static constexpr std::size_t kLongestMatch = 16;

 private:
    using Position = std::uint32_t;  // counted from 1; 0 is none. Its slot is its remainder by the ring's size.

    static constexpr std::array<std::size_t, 4> kOrders{8, 4, 2, 1};

    // The entries of one length of match.
    struct Chain {
        std::vector<Position> heads, previous;
    };

    // A token that is in the ring and in no chain yet. chains: how many it belongs to.
    struct Entry {
        Position position;
        std::size_t chains;
        std::array<std::size_t, kOrders.size()> buckets;
    };

    void grow(std::size_t capacity);
    void append(const std::int32_t* tokens, std::size_t count);
    Entry enter(std::int32_t token);
    void link(const Entry& entry);
    bool holds(Position position) const { return position != 0 && end_ - position - 1 < held_; }
    std::int32_t token(Position position) const { return tokens_[position & mask_]; }
    std::size_t match_length(Position position, const std::int32_t* context, std::size_t count) const;
    void count_choices(std::size_t order, Position newest, const std::int32_t* context, std::size_t count,
                       Found& found) const;
    std::size_t bucket(std::uint64_t hash) const {
        return static_cast<std::size_t>((hash * 0x9E3779B97F4A7C15u) >> shift_);
    }

    std::size_t most_tokens_;
    std::size_t orders_;  // how many of kOrders are kept
    std::vector<std::int32_t> tokens_;
    std::array<Chain, kOrders.size()> chains_;
    Position mask_ = 0;
    unsigned shift_ = 63;
    std::array<std::uint64_t, kOrders.size()> hashes_{};  // of the last tokens of the present text, rolling
    std::size_t run_ = 0;                                 // tokens of the present text
    std::size_t held_ = 0;
    Position end_ = 1;  // of the next token
};

}  // namespace edgespec::lookup
