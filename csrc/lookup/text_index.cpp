#include "lookup/text_index.hpp"

#include <algorithm>
#include <utility>

namespace edgespec::lookup {

namespace {

constexpr std::size_t kFirstCapacity = 1024;
constexpr int kCandidates = 16;  // occurrences that a look-up counts
constexpr int kSteps = 48;       // entries that it walks; other tokens may have the same hash

constexpr std::size_t kBlock = 16;  // tokens that are entered together; less than the smallest ring has
constexpr std::size_t kNoBucket = ~std::size_t{0};

// A hash of k tokens is the sum of (token + 1) * kBase^i, i from 0 for the newest.
constexpr std::uint64_t kBase = 0xD6E8FEB86659FD93u;

constexpr std::uint64_t base_to(std::size_t power) {
    std::uint64_t result = 1;
    while (power-- > 0) result *= kBase;
    return result;
}

std::uint64_t summand(std::int32_t token) { return static_cast<std::uint32_t>(token) + std::uint64_t{1}; }

std::size_t power_of_two_to(std::size_t most) {
    std::size_t power = 2 * TextIndex::kLongestMatch;
    while (2 * power <= most) power *= 2;
    return power;
}

void count(std::vector<Choice>& choices, std::int32_t token) {
    const auto known = std::find_if(choices.begin(), choices.end(), [&](const Choice& c) { return c.token == token; });
    if (known == choices.end()) {
        choices.push_back({token, 1});
    } else {
        ++known->count;
    }
}

}  // namespace

TextIndex::TextIndex(std::size_t most_tokens, std::size_t shortest_match)
    : most_tokens_(power_of_two_to(std::min<std::size_t>(most_tokens, std::size_t{1} << 30))),
      orders_(static_cast<std::size_t>(
          std::count_if(kOrders.begin(), kOrders.end(), [&](std::size_t order) { return order >= shortest_match; }))) {
    clear();
}

void TextIndex::clear() {
    held_ = 0;
    end_ = 1;
    tokens_.clear();
    grow(std::min(kFirstCapacity, most_tokens_));
}

std::size_t TextIndex::bytes_per_token(std::size_t shortest_match) {
    const auto orders =
        std::count_if(kOrders.begin(), kOrders.end(), [&](auto order) { return order >= shortest_match; });
    return sizeof(std::int32_t) + static_cast<std::size_t>(orders) * (sizeof(Position) + sizeof(Position) / 2);
}

std::size_t TextIndex::bytes() const {
    std::size_t words = tokens_.size();
    for (const Chain& chain : chains_) words += chain.heads.size() + chain.previous.size();
    return words * sizeof(Position);
}

void TextIndex::add(const std::int32_t* tokens, std::size_t count) {
    if (count > most_tokens_) {
        tokens += count - most_tokens_;
        count = most_tokens_;
    }
    const std::size_t wanted = std::min(most_tokens_, held_ + count);
    std::size_t capacity = tokens_.size();
    while (capacity < wanted) capacity *= 2;
    if (capacity > tokens_.size()) grow(capacity);
    append(tokens, count);
}

// A larger ring, with what is held entered anew.
void TextIndex::grow(std::size_t capacity) {
    std::vector<std::int32_t> before(held_);
    for (std::size_t i = 0; i < held_; ++i) before[i] = token(static_cast<Position>(end_ - held_ + i));
    tokens_.assign(capacity, kTextEnd);
    mask_ = static_cast<Position>(capacity - 1);
    unsigned bits = 1;
    while ((std::size_t{2} << bits) < capacity) ++bits;
    shift_ = 64 - bits;
    for (std::size_t order = 0; order < orders_; ++order) {
        chains_[order].heads.assign(std::max<std::size_t>(2, capacity / 2), 0);
        chains_[order].previous.assign(capacity, 0);
    }
    held_ = 0;
    end_ = 1;
    run_ = 0;
    hashes_ = {};
    append(before.data(), before.size());
}

// In blocks, so that the memory that a token's chains begin in is on its way while others are hashed.
void TextIndex::append(const std::int32_t* tokens, std::size_t count) {
    std::array<Entry, kBlock> entries;
    while (count > 0) {
        const std::size_t block = std::min(count, kBlock);
        for (std::size_t i = 0; i < block; ++i) entries[i] = enter(tokens[i]);
        for (std::size_t i = 0; i < block; ++i) link(entries[i]);
        tokens += block;
        count -= block;
    }
}

TextIndex::Entry TextIndex::enter(std::int32_t one) {
    if (end_ == 0) {  // positions have wrapped round
        ++end_;
        one = kTextEnd;
    }
    Entry entry{end_++, 0, {}};
    const std::size_t slot = entry.position & mask_;
    held_ = std::min(held_ + 1, tokens_.size());
    if (one < 0) {
        tokens_[slot] = kTextEnd;
        run_ = 0;
        hashes_ = {};
        return entry;
    }
    static constexpr std::array<std::uint64_t, kOrders.size()> kOldest{base_to(kOrders[0]), base_to(kOrders[1]),
                                                                       base_to(kOrders[2]), base_to(kOrders[3])};
    tokens_[slot] = one;
    entry.chains = orders_;
    for (std::size_t order = 0; order < orders_; ++order) {
        std::uint64_t& hash = hashes_[order];
        hash = hash * kBase + summand(one);
        if (run_ >= kOrders[order]) {
            hash -= summand(token(entry.position - static_cast<Position>(kOrders[order]))) * kOldest[order];
        }
        entry.buckets[order] = run_ + 1 < kOrders[order] ? kNoBucket : bucket(hash);
        if (entry.buckets[order] != kNoBucket) __builtin_prefetch(&chains_[order].heads[entry.buckets[order]], 1);
    }
    ++run_;
    return entry;
}

void TextIndex::link(const Entry& entry) {
    for (std::size_t order = 0; order < entry.chains; ++order) {
        Chain& chain = chains_[order];
        const std::size_t bucket = entry.buckets[order];
        chain.previous[entry.position & mask_] =
            bucket == kNoBucket ? 0 : std::exchange(chain.heads[bucket], entry.position);
    }
}

Found TextIndex::find(const std::int32_t* context, std::size_t count) const {
    const std::int32_t* end = context + count;
    count = std::min(count, kLongestMatch);
    std::array<std::uint64_t, kOrders.size()> hashes{};
    std::uint64_t hash = 0, power = 1;
    std::size_t length = 0, longest = orders_;  // index of the longest order that the context has tokens for
    while (longest > 0 && kOrders[longest - 1] <= count) {
        --longest;
        for (; length < kOrders[longest]; ++length, power *= kBase) {
            hash += summand(end[-1 - static_cast<std::ptrdiff_t>(length)]) * power;
        }
        hashes[longest] = hash;
    }
    Found found;
    for (std::size_t order = longest; order < orders_ && found.length == 0; ++order) {
        count_choices(order, chains_[order].heads[bucket(hashes[order])], end, count, found);
    }
    std::stable_sort(found.choices.begin(), found.choices.end(),
                     [](const Choice& one, const Choice& other) { return one.count > other.count; });
    return found;
}

std::size_t TextIndex::match_length(Position position, const std::int32_t* end, std::size_t count) const {
    std::size_t length = 0;
    while (length < count) {
        const Position at = position - static_cast<Position>(length);
        if (!holds(at) || token(at) == kTextEnd || token(at) != end[-1 - static_cast<std::ptrdiff_t>(length)]) break;
        ++length;
    }
    return length;
}

// Counts what follows the longest matches among the newest entries of a chain.
void TextIndex::count_choices(std::size_t order, Position newest, const std::int32_t* end, std::size_t count_context,
                              Found& found) const {
    int candidates = 0;
    Position position = newest;
    for (int step = 0; step < kSteps && candidates < kCandidates && holds(position); ++step) {
        const Position next = position + 1;
        const std::size_t length =
            holds(next) && token(next) != kTextEnd ? match_length(position, end, count_context) : 0;
        if (length >= kOrders[order]) {
            ++candidates;
            if (length > found.length) found = Found{length, 0, {}};
            if (length == found.length) {
                ++found.total;
                count(found.choices, token(next));
            }
        }
        const Position before = chains_[order].previous[position & mask_];
        if (end_ - before <= end_ - position) break;  // an entry that was overwritten since
        position = before;
    }
}

}  // namespace edgespec::lookup
