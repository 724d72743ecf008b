// Connections that have not said who they are: a newcomer always has a place, and an address has its share of them.
#include "check.hpp"
#include "net/network.hpp"
#include "net/strangers.hpp"

using namespace edgespec::net;

namespace {

void the_oldest_of_an_address_gives_way_to_its_newest() {
    Strangers strangers({10, 2, {}});
    CHECK(!strangers.add("a", 1) && !strangers.add("a", 2));
    CHECK(strangers.add("a", 3) == 1);
    strangers.remove("a", 2);
    CHECK(!strangers.add("a", 4));
}

void the_most_crowded_address_gives_way_to_another() {
    Strangers strangers({4, 10, {}});
    for (std::uint64_t number = 1; number <= 4; ++number) strangers.add(number == 4 ? "b" : "a", number);
    CHECK(strangers.add("c", 5) == 1);
    CHECK(strangers.give_way() == 2);
}

void who_is_gone_already_gives_way_to_nobody() {
    Strangers strangers({1, 1, {}});
    strangers.add("a", 1);
    strangers.remove("a", 1);
    strangers.remove("a", 1);
    CHECK(!strangers.give_way() && !strangers.add("a", 2));
}

void an_address_arrives_at_its_own_rate() {
    const auto now = std::chrono::steady_clock::now();
    Strangers strangers({1, 1, {1, 2}});
    CHECK(strangers.may_arrive("a", now) && strangers.may_arrive("a", now) && !strangers.may_arrive("a", now));
    CHECK(strangers.may_arrive("b", now));
    CHECK(strangers.may_arrive("a", now + std::chrono::seconds(1)));
}

// Those whose rate is full are forgotten when many are known; who did more of late is not among them.
void who_did_much_of_late_is_remembered_among_many() {
    const auto now = std::chrono::steady_clock::now();
    Rates rates({1, 3});
    for (int i = 0; i < 3; ++i) CHECK(rates.take("busy", now));
    for (int i = 0; i < 5000; ++i) CHECK(rates.take(std::to_string(i), now + std::chrono::microseconds(300 * i)));
    const auto later = now + std::chrono::microseconds(1'500'000);
    CHECK(rates.take("busy", later) && !rates.take("busy", later));
}

// A host of IPv6 has 2^64 addresses to call from.
void who_has_a_network_of_addresses_is_one_caller() {
    const auto network = [](const char* address) { return network_of(asio::ip::make_address(address)); };
    CHECK(network("2001:db8:1:2::3") == "2001:db8:1:2::/64");
    CHECK(network("2001:db8:1:2:ffff:ffff:ffff:ffff") == network("2001:db8:1:2::"));
    CHECK(network("2001:db8:1:3::3") != network("2001:db8:1:2::3"));
    CHECK(network("fe80::1%1") == network("fe80::2%1"));
    CHECK(network("192.0.2.1") == "192.0.2.1" && network("192.0.2.2") == "192.0.2.2");
}

void an_ipv4_address_is_the_same_caller_by_ipv6() {
    const auto mapped = asio::ip::make_address("::ffff:192.0.2.1");
    CHECK(network_of(mapped) == "192.0.2.1" && unmapped(mapped).to_string() == "192.0.2.1");
}

}  // namespace

int main() {
    the_oldest_of_an_address_gives_way_to_its_newest();
    the_most_crowded_address_gives_way_to_another();
    who_is_gone_already_gives_way_to_nobody();
    an_address_arrives_at_its_own_rate();
    who_did_much_of_late_is_remembered_among_many();
    who_has_a_network_of_addresses_is_one_caller();
    an_ipv4_address_is_the_same_caller_by_ipv6();
}
