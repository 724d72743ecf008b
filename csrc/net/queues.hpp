// The orders in which an inbox gives its items out: as they came, or in turns of those who sent them. Not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

namespace edgespec::net {

// As they came.
template <class T>
class Fifo {
 public:
    bool empty() const { return items_.empty(); }
    void push(T item) { items_.push_back(std::move(item)); }
    T pop() {
        T item = std::move(items_.front());
        items_.pop_front();
        return item;
    }

 private:
    std::deque<T> items_;
};

// One item of each lane in turn: whoever sends much keeps only himself waiting. An item has the number of its lane.
template <class T>
class Lanes {
 public:
    bool empty() const { return turns_.empty(); }

    void push(T item) {
        const std::uint64_t lane = item.lane;
        std::deque<T>& items = lanes_[lane];
        if (items.empty()) turns_.push_back(lane);
        items.push_back(std::move(item));
    }

    T pop() {
        std::deque<T>& items = lanes_.at(turns_.front());
        T item = std::move(items.front());
        items.pop_front();
        next_turn(items.empty());
        return item;
    }

    // Items in turns as long as `more(item)`; a lane whose next item is not `wanted(item)` is left out from there on.
    // `piece(item)`: the first piece of one that is too long for a turn, and the item becomes the rest; or nothing.
    template <class More, class Wanted, class Piece>
    std::vector<T> pop_while(More more, Wanted wanted, Piece piece) {
        std::vector<T> taken;
        std::deque<std::uint64_t> left_out;
        while (!turns_.empty()) {
            T& next = lanes_.at(turns_.front()).front();
            if (!more(next)) break;
            if (!wanted(next)) {
                left_out.push_back(turns_.front());
                turns_.pop_front();
            } else if (std::optional<T> first = piece(next)) {
                taken.push_back(std::move(*first));
                next_turn(false);
            } else {
                taken.push_back(pop());
            }
        }
        turns_.insert(turns_.begin(), left_out.begin(), left_out.end());
        return taken;
    }

 private:
    void next_turn(bool done) {
        const std::uint64_t lane = turns_.front();
        turns_.pop_front();
        if (done) {
            lanes_.erase(lane);
        } else {
            turns_.push_back(lane);
        }
    }

    std::unordered_map<std::uint64_t, std::deque<T>> lanes_;
    std::deque<std::uint64_t> turns_;  // the lanes that have items
};

}  // namespace edgespec::net
