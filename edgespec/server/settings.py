"""What an operator chooses about a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from edgespec.server.gate import ServerSecurity

if TYPE_CHECKING:
    from edgespec.server.metrics import Metrics
    from edgespec.server.server_session import ServerDrafters


@dataclass(frozen=True)
class ServerSettings:
    """max_sessions: that may be open at once. latency_ms: the target for a token of sessions that ask for none;
    least_latency_ms: the least that a session may ask for (None: `latency_ms`, or whatever forwards allow).

    resume_for_s: how long a session waits for an edge that has lost its connections; dead_after_s: after which silence
    a connection is given up. security: who may connect, and whether links are encrypted; by default this machine only.
    server_drafters: makes a drafter for a session that asks for one; None: this server hosts no draft. busy_spin: poll
    the sockets without sleeping, which takes a core and saves the time to wake up.
    """

    max_sessions: int = 1024
    latency_ms: float | None = None
    least_latency_ms: float | None = None
    resume_for_s: float = 60.0
    dead_after_s: float = 2.5
    busy_spin: bool = False
    security: ServerSecurity = field(default_factory=ServerSecurity)
    metrics: Metrics | None = None
    server_drafters: ServerDrafters | None = None
