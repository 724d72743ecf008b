"""What counts as one address of a client: an IPv6 host chooses half of its own as it likes."""

from __future__ import annotations

import ipaddress

NETWORK_BITS = 64


def network_of(host: str) -> str:
    """An IPv4 address, or the network of an IPv6 one; whatever else it is, as it is."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), NETWORK_BITS), strict=False))
