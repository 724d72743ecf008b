"""The server's gate: where it listens, who may come in, and the connections that have.

A connection says HELLO, and is welcomed under its device's identity or refused. A session can only be resumed by the
identity that opened it (csrc/net/listener.hpp).
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from edgespec import _native
from edgespec.core.descriptors import descriptors_for
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer_archive import NO_HASH
from edgespec.server.audit import AuditLog
from edgespec.server.devices import ANONYMOUS, Devices, device_name
from edgespec.server.refusal import Refused
from edgespec.server.settings import ServerSettings
from edgespec.server.tokenizer_offer import TokenizerOffer

log = logging.getLogger("edgespec.server")

VOID = "the device's tokens are void"

MOST_CONNECTIONS = 2048

SESSION_BYTES = 1 << 18
"""Sent to a session and not acknowledged; with more the session ends."""

CONNECTION_BYTES = 1 << 20
"""Of frames that wait to be sent over one connection; with more it ends."""

OTHER_FILES = 192
"""File descriptors that a server needs beside its connections."""


@dataclass
class _Connection:
    """identity: once it is welcomed. holders: under which names it is counted then."""

    certificate: str
    address: str
    identity: bytes | None = None
    holders: frozenset[str] = frozenset()


class Gate:
    """Listens; `port` 0 takes a free one. welcome: the WELCOME frame. Raises EdgespecError where it cannot listen."""

    def __init__(
        self,
        host: str,
        port: int,
        settings: ServerSettings,
        welcome: bytes,
        vocabulary_hash: bytes,
        offer: TokenizerOffer,
    ) -> None:
        self._security = security = settings.security
        security.check(host)
        most_connections = self.most_connections = descriptors_for(MOST_CONNECTIONS, OTHER_FILES)
        self.devices = Devices(security, most_connections)
        self.audit = AuditLog(security.audit_log)
        self._welcome = welcome
        self._vocabulary_hash = vocabulary_hash
        self._offer = offer
        self._connections: dict[int, _Connection] = {}
        try:
            self.listener = _native.Listener(
                host,
                port,
                dead_after_s=settings.dead_after_s,
                tls=security.tls(),
                busy_spin=settings.busy_spin,
                connections=most_connections,
                session_bytes=SESSION_BYTES,
                queued_bytes=CONNECTION_BYTES,
            )
        except OSError as error:
            raise EdgespecError(f"cannot listen on {host}:{port} ({error}): choose another --port.") from None

    def __contains__(self, number: int) -> bool:
        """Whether this number is a connection's."""
        return number in self._connections

    @property
    def welcomed(self) -> list[int]:
        return [number for number, one in self._connections.items() if one.identity is not None]

    def receive(self, number: int, message: Any) -> None:
        """A message or event of a connection. Raises Refused."""
        if isinstance(message, _native.Connected):
            self._connections[number] = _Connection(message.certificate, message.address)
        elif isinstance(message, _native.Disconnected):
            self._leave(self._connections.pop(number), message.reason)
        elif isinstance(message, _native.Hello) and self._connections[number].identity is None:
            self._check(message)
            connection = self._connections[number]
            identity = self.devices.identify(message.credential, connection.certificate)
            connection.holders = self.devices.enter(identity, len(self._connections) - 1)
            connection.identity = identity
            self.listener.welcome(number, self._welcome, identity)
            self.audit.record("welcomed", device_name(identity), address=connection.address)
        elif isinstance(message, _native.Fetch) and self._connections[number].identity is not None:
            self._send_part(number, message)
        else:
            raise Refused(_native.ErrorCode.PROTOCOL, "say HELLO first, once, and wait for the WELCOME")

    def reload(self) -> None:
        """Read certificates, tokens and the audit log's name again, each by itself: one that cannot be read stays as it
        was, and keeps none of the others from being renewed."""
        self.reload_tokens()
        try:
            tls = self._security.tls()
            if tls is not None:
                self.listener.set_tls(tls)
            self.audit.reopen()
        except EdgespecError as error:
            log.error("not reloaded: %s", error)

    def reload_tokens(self) -> None:
        """Read the tokens again, and disconnect devices that are no longer known."""
        try:
            self.devices.reload()
        except EdgespecError as error:
            log.error("the tokens were not reloaded: %s", error)
            return
        refused = Refused(_native.ErrorCode.CREDENTIAL, VOID)
        for number, one in self._connections.items():
            if one.identity is not None and not self.knows(one.identity):
                self.audit.record("cut", device_name(one.identity), reason=VOID)
                self.listener.send(number, refused.frame())
                self.listener.disconnect(number)
        log.info("reloaded: %d tokens", len(self.devices))

    def knows(self, identity: bytes) -> bool:
        """Whether this identity may still connect."""
        return self.devices.knows(identity)

    def who(self, number: int) -> tuple[str, str]:
        """The device on a connection (nothing: it is not welcomed) and its address."""
        connection = self._connections[number]
        return device_name(connection.identity or ANONYMOUS), connection.address

    def _leave(self, connection: _Connection, reason: str) -> None:
        self.devices.leave(connection.holders)
        if connection.identity is not None:
            who = device_name(connection.identity)
            self.audit.record("left", who, address=connection.address, reason=reason)

    def _check(self, hello: _native.Hello) -> None:
        if not hello.version_min <= _native.PROTOCOL_VERSION <= hello.version_max:
            raise Refused(
                _native.ErrorCode.VERSION,
                f"this server speaks protocol version {_native.PROTOCOL_VERSION}, the edge {hello.version_min} to "
                f"{hello.version_max}: install the same edgespec on both",
            )
        if hello.vocabulary_hash not in (self._vocabulary_hash, NO_HASH):
            raise Refused(
                _native.ErrorCode.VOCABULARY,
                "the draft's tokenizer is not the target's: compile a draft that shares the target's tokenizer",
            )

    def _send_part(self, number: int, asked: _native.Fetch) -> None:
        identity = self._connections[number].identity or f"connection {number}".encode()
        if not self._offer.rates.take(identity, time.monotonic()):
            raise Refused(_native.ErrorCode.LIMIT, "the tokenizer was fetched often enough: keep it")
        self.listener.send(number, self._offer.part(asked))
