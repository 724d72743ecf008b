"""Who asks. Turns are taken by it, connections are counted by it, and a kept session belongs to it."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass

NETWORK_BITS = 64
"""An IPv6 host chooses the rest of its address as it likes."""


@dataclass(frozen=True)
class Holder:
    """address: of the client. key: a digest of the credential that it showed. user: as the request names it."""

    address: str
    key: str = ""
    user: str = ""

    @property
    def network(self) -> str:
        return network_of(self.address)

    @property
    def name(self) -> str:
        """Among those of its network."""
        return f"{self.key} {self.user}"


def holder(address: str, authorization: str, user: str) -> Holder:
    """authorization: the header, as it was sent."""
    return Holder(address, hashlib.sha256(authorization.encode()).hexdigest(), user)


def network_of(host: str) -> str:
    """What counts as one address: an IPv4 address, or the network of an IPv6 one."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), NETWORK_BITS), strict=False))
