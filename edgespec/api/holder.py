"""Who asks. Turns are taken by it, connections are counted by it, and a kept session belongs to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from edgespec.core.network import network_of


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
