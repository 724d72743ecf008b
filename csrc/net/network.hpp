// What counts as one caller: an IPv4 address, or an IPv6 network of 64 bits, as a host there has all of its addresses.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "net/asio.hpp"

namespace edgespec::net {

// An IPv4 address that a socket of IPv6 gave is an IPv4 address.
inline asio::ip::address unmapped(const asio::ip::address& address) {
    if (!address.is_v6() || !address.to_v6().is_v4_mapped()) return address;
    return asio::ip::make_address_v4(asio::ip::v4_mapped, address.to_v6());
}

inline std::string network_of(const asio::ip::address& address) {
    const asio::ip::address plain = unmapped(address);
    if (plain.is_v4()) return plain.to_string();
    auto bytes = plain.to_v6().to_bytes();
    std::fill(bytes.begin() + 8, bytes.end(), std::uint8_t{0});
    return asio::ip::address_v6(bytes).to_string() + "/64";
}

}  // namespace edgespec::net
