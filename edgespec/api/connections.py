"""How many connections the API takes, in all and from one address, so that strangers leave some to others.

They are counted as they are accepted, before TLS or a key: a connection that never says anything counts too.
"""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from typing import Any

from edgespec.core.descriptors import descriptors_for
from edgespec.core.errors import EdgespecError
from edgespec.core.network import network_of
from edgespec.core.shares import may_take

MOST_CONNECTIONS = 2048

OTHER_FILES = 128
"""File descriptors that the API needs beside connections and sessions."""

SESSION_FILES = 8
"""Of one session: its links, and what wakes them."""


class Connections:
    """most: at once. An address may hold three times as many as it leaves free, so a newcomer always finds one."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        return self._held.total()

    def enter(self, network: str) -> bool:
        """Count a new connection. False: it may not come in."""
        if not may_take(self._held[network], len(self), self._most):
            return False
        self._held[network] += 1
        return True

    def leave(self, network: str) -> None:
        self._held[network] -= 1
        if not self._held[network]:
            del self._held[network]


class CountingListener(socket.socket):
    """A listening socket whose connections are counted until they are closed; others are closed at once."""

    def __init__(self, family: int, connections: Connections) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self._connections = connections

    def accept(self) -> tuple[socket.socket, Any]:
        """Raises ConnectionAbortedError where the connection may not come in."""
        accepted, address = super().accept()
        network = network_of(address[0])
        if not self._connections.enter(network):
            accepted.close()
            raise ConnectionAbortedError(f"{network} has enough connections")
        return _Counted(accepted, lambda: self._connections.leave(network)), address


class _Counted(socket.socket):
    def __init__(self, accepted: socket.socket, leave: Callable[[], None]) -> None:
        super().__init__(accepted.family, accepted.type, accepted.proto, accepted.detach())
        self._leave: Callable[[], None] | None = leave

    def close(self) -> None:
        super().close()
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


def listen(host: str, port: int, sessions: int) -> CountingListener:
    """sessions: that may be open at once, and need descriptors too. Raises EdgespecError where the address cannot be
    had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    most = descriptors_for(MOST_CONNECTIONS, OTHER_FILES + SESSION_FILES * sessions)
    listening = CountingListener(family, Connections(most))
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(1024)
    except OSError as error:
        listening.close()
        raise EdgespecError(
            f"cannot listen on {host}:{port} ({error.strerror}): choose another --host or --port."
        ) from None
    return listening
