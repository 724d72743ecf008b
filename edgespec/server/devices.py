"""The devices of a server: who shows which credential, whose they are, and how many connections each has."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from edgespec import _native
from edgespec.core.access import KnownDevices, KnownToken
from edgespec.core.shares import TENANT, may_take
from edgespec.server.guide_time import GuideTime
from edgespec.server.refusal import Refused
from edgespec.server.settings import ServerSecurity
from edgespec.verifying.belief import Belief

ANONYMOUS = b""
"""The identity of an edge that need not say who it is."""

MOST_REMEMBERED = 4096
"""Devices of which something is remembered."""

Kept = TypeVar("Kept")


class Remembered(Generic[Kept]):
    """Something of each device that says who it is; of the last ones, where there are many. new: makes it."""

    def __init__(self, new: Callable[[], Kept]) -> None:
        self._new = new
        self._known: OrderedDict[str, Kept] = OrderedDict()

    def __getitem__(self, identity: bytes) -> Kept:
        """Of a device that does not say who it is: one that is new."""
        if not (name := device_name(identity)):
            return self._new()
        if name not in self._known:
            self._known[name] = self._new()
        self._known.move_to_end(name)
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)
        return self._known[name]


class Devices:
    """Raises EdgespecError where the tokens cannot be read. most_connections: of all together. beliefs: in each
    device's drafts. guide_times: what its guides take."""

    def __init__(self, security: ServerSecurity, most_connections: int) -> None:
        self._security = security
        self._most_connections = most_connections
        self._connections: Counter[str] = Counter()
        self.beliefs = Remembered(Belief)
        self.guide_times = Remembered(GuideTime)
        self.reload()

    def reload(self) -> None:
        """Read the tokens again. Raises EdgespecError, with nothing changed."""
        tokens = self._security.known_tokens()
        self._known = None if tokens is None else KnownDevices(tokens)

    def __len__(self) -> int:
        """Of the tokens."""
        return len(self._known or ())

    def knows(self, identity: bytes) -> bool:
        """Whether this identity may still connect."""
        return self._known is None or self._token(identity) is not None

    def identify(self, credential: bytes, certificate: str) -> bytes:
        """Raises Refused for a credential that nobody has."""
        if self._known is None:
            return f"certificate {certificate}".encode() if certificate else ANONYMOUS
        device = self._known.device_of(credential)
        if device is None:
            raise Refused(
                _native.ErrorCode.CREDENTIAL,
                "this server knows no such token: make one with `edgespec token new`, and give the edge --token-file"
                if credential
                else "this server wants a token: give the edge --token-file",
            )
        return f"device {device}".encode()

    def holders(self, identity: bytes) -> frozenset[str]:
        """In whose shares it counts: its device's and its tenant's; nobody's, where nobody knows who it is."""
        if identity == ANONYMOUS:
            return frozenset()
        token = self._token(identity)
        tenant = {TENANT + token.tenant} if token is not None and token.tenant else set()
        return frozenset({device_name(identity)} | tenant)

    def granted_ms(self, identity: bytes) -> float | None:
        """The lowest latency target that this device's token grants; None: what the server promises anybody."""
        token = self._token(identity)
        return None if token is None else token.latency_ms

    def enter(self, identity: bytes, others: int) -> frozenset[str]:
        """Count a connection more, beside `others` of all devices; returns in whose shares. Raises Refused."""
        holders = self.holders(identity)
        for holder in sorted(holders):
            present = self._connections[holder]
            too_many = holder == device_name(identity) and present >= self._security.connections_a_device
            if too_many or not may_take(present, others, self._most_connections):
                message = f"{holder} has {present} connections: close some"
                raise Refused(_native.ErrorCode.LIMIT, message, retry_after_ms=0)
        self._connections.update(holders)
        return holders

    def leave(self, holders: Collection[str]) -> None:
        """Of a connection that is gone, what `enter` returned."""
        self._connections.subtract(holders)
        self._connections += Counter()  # forgets those who have none

    def _token(self, identity: bytes) -> KnownToken | None:
        return None if self._known is None else self._known.newest(device_name(identity))


def device_name(identity: bytes) -> str:
    """For people: the device's or certificate's name; nothing for ANONYMOUS."""
    return identity.decode(errors="replace").partition(" ")[2]
