// The orders in which an inbox gives its items out: as they came, or in turns of those who sent them. Not thread-safe.
#pragma once

#include <cstdint>
#include <deque>
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
    template <class More, class Wanted>
    std::vector<T> pop_while(More more, Wanted wanted) {
        std::vector<T> taken;
        std::deque<std::uint64_t> left_out;
        while (!turns_.empty()) {
            const T& next = lanes_.at(turns_.front()).front();
            if (!more(next)) break;
            if (wanted(next)) {
                taken.push_back(pop());
            } else {
                left_out.push_back(turns_.front());
                turns_.pop_front();
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
