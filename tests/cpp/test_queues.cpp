// The inbox's order: devices in turns, each device's own items in order.
#include "check.hpp"
#include "net/queues.hpp"

using namespace edgespec::net;

namespace {

struct Item {
    std::uint64_t lane;
    int number;
};

std::optional<Item> whole(Item&) { return std::nullopt; }

void lanes_take_turns() {
    Lanes<Item> lanes;
    for (int i = 0; i < 1000; ++i) lanes.push({1, i});
    lanes.push({2, 0});
    lanes.push({3, 0});
    CHECK(lanes.pop().lane == 1 && lanes.pop().lane == 2 && lanes.pop().lane == 3);
    for (int i = 1; i < 1000; ++i) CHECK(lanes.pop().number == i);
    CHECK(lanes.empty());
}

void an_unwanted_item_holds_back_its_own_lane_only_and_keeps_its_place() {
    Lanes<Item> lanes;
    for (int i = 0; i < 3; ++i) lanes.push({1, i}), lanes.push({2, i});
    const auto taken = lanes.pop_while([](const Item&) { return true; },
                                       [](const Item& item) { return item.lane != 1 || item.number < 1; }, whole);
    CHECK(taken.size() == 4);
    CHECK(lanes.pop().number == 1 && lanes.pop().number == 2 && lanes.empty());
}

void taking_ends_where_there_is_enough() {
    Lanes<Item> lanes;
    for (int i = 0; i < 10; ++i) lanes.push({1, i});
    int left = 4;
    CHECK(lanes.pop_while([&](const Item&) { return left-- > 0; }, [](const Item&) { return true; }, whole).size() ==
          4);
    CHECK(lanes.pop().number == 4);
}

void a_long_item_goes_out_in_pieces_with_those_of_others_between() {
    Lanes<Item> lanes;
    lanes.push({1, 30});
    lanes.push({2, 5});
    const auto ten = [](Item& item) -> std::optional<Item> {
        if (item.number <= 10) return std::nullopt;
        item.number -= 10;
        return Item{item.lane, 10};
    };
    const auto always = [](const Item&) { return true; };
    const auto taken = lanes.pop_while(always, always, ten);
    CHECK(taken.size() == 4 && lanes.empty());
    CHECK(taken[0].number == 10 && taken[1].lane == 2 && taken[2].number == 10 && taken[3].number == 10);
}

}  // namespace

int main() {
    lanes_take_turns();
    an_unwanted_item_holds_back_its_own_lane_only_and_keeps_its_place();
    taking_ends_where_there_is_enough();
    a_long_item_goes_out_in_pieces_with_those_of_others_between();
}
