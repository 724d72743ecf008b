"""What an operator chooses about a server, security included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgespec import _native
from edgespec.core.access import KnownToken, check_exposure
from edgespec.core.errors import EdgespecError
from edgespec.server.tokens import read_tokens

if TYPE_CHECKING:
    from edgespec.server.metrics import Metrics
    from edgespec.server.server_session import ServerDrafters


@dataclass(frozen=True)
class ServerSecurity:
    """Who may connect. tls_cert, tls_key: with them the link is encrypted; tls_client_ca: edges must show a certificate
    that this authority signed; tokens: the file of `edgespec token`; insecure: any edge may connect from anywhere.
    connections_a_device: a session may have two, or four while it changes over. audit_log: see audit.py."""

    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tokens: Path | None = None
    insecure: bool = False
    connections_a_device: int = 256
    audit_log: Path | None = None

    def check(self, host: str) -> None:
        """Raises EdgespecError where a server on this host would be open to strangers, or a file is wrong."""
        check_exposure(
            host,
            encrypted=self.tls_cert is not None,
            authenticated=bool(self.tokens or self.tls_client_ca),
            insecure=self.insecure,
        )
        self.tls()
        self.known_tokens()

    def known_tokens(self) -> list[KnownToken] | None:
        """Of the devices that may connect; None: no token is asked for."""
        return None if self.tokens is None else read_tokens(self.tokens)

    def tls(self) -> _native.Tls | None:
        """Raises EdgespecError where the files are missing or do not fit."""
        if self.tls_cert is None or self.tls_key is None:
            if self.tls_cert or self.tls_key or self.tls_client_ca:
                raise EdgespecError(
                    "TLS needs a certificate and its key: give both --tls-cert and --tls-key."
                )
            return None
        try:
            return _native.Tls.server(str(self.tls_cert), str(self.tls_key), str(self.tls_client_ca or ""))
        except _native.TlsError as error:
            raise EdgespecError(f"{error}.") from None


@dataclass(frozen=True)
class ServerSettings:
    """max_sessions: that may be open at once. latency_ms: the target for a token of sessions that ask for none;
    least_latency_ms: the least that a session may ask for (None: `latency_ms`, or whatever forwards allow).

    share_prefixes: a session reads what other devices' sessions computed of the same prompt; otherwise only its own
    device's. resume_for_s: how long a session waits for an edge that has lost its connections; dead_after_s: after
    which silence a connection is given up. security: who may connect, and whether links are encrypted; by default
    this machine only. server_drafters: makes a drafter for a session that asks for one; None: this server hosts no
    draft. busy_spin: poll the sockets without sleeping, which takes a core and saves the time to wake up.
    shared_memory: texts of sessions that allow it are looked up for other texts of their tenant (shared_memory.py).
    no_guesses: what the target chose behind rejected tokens is not verified as a guess of the next ones.
    sampling_defaults: how edges sample whose user asks for nothing else (edgespec.core.generation_config).
    """

    max_sessions: int = 1024
    latency_ms: float | None = None
    least_latency_ms: float | None = None
    resume_for_s: float = 60.0
    dead_after_s: float = 2.5
    busy_spin: bool = False
    share_prefixes: bool = False
    security: ServerSecurity = field(default_factory=ServerSecurity)
    no_guesses: bool = False
    shared_memory: bool = False
    sampling_defaults: Mapping[str, Any] = field(default_factory=dict)
    metrics: Metrics | None = None
    server_drafters: ServerDrafters | None = None
