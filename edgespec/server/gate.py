"""The server's gate: where it listens, who may come in, and the connections that have.

A connection says HELLO, and is welcomed under its device's identity or refused. A session can only be resumed by the
identity that opened it (csrc/net/listener.hpp).
"""

from __future__ import annotations

import logging
import resource
from collections import Counter
from dataclasses import dataclass
from typing import Any

from edgespec import _native
from edgespec.core.access import KnownDevices
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer_archive import NO_HASH
from edgespec.server.audit import AuditLog
from edgespec.server.refusal import Refused
from edgespec.server.settings import ServerSecurity, ServerSettings
from edgespec.server.shares import TENANT, may_take
from edgespec.server.tokenizer_offer import TokenizerOffer

log = logging.getLogger("edgespec.server")

ANONYMOUS = b""
"""The identity of an edge that need not say who it is."""

VOID = "the device's tokens are void"

MOST_CONNECTIONS = 2048

OTHER_FILES = 192
"""File descriptors that a server needs beside its connections."""


@dataclass
class _Connection:
    """identity: once it is welcomed. holders: under which names it is counted then: its device's and its tenant's. parts:
    of the tokenizer that it was sent."""

    certificate: str
    address: str
    identity: bytes | None = None
    holders: frozenset[str] = frozenset()
    parts: int = 0


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
        self._devices = _devices(security)
        self.audit = AuditLog(security.audit_log)
        self._most_connections = _connections_that_fit()
        self._of_holder: Counter[str] = Counter()
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
                connections=self._most_connections,
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
            self._of_holder.subtract(self._connections.pop(number).holders)
            self._of_holder += Counter()  # forgets those who have none
        elif isinstance(message, _native.Hello) and self._connections[number].identity is None:
            self._check(message)
            identity = self._identify(message.credential, self._connections[number].certificate)
            connection = self._connections[number]
            connection.identity, connection.holders = identity, self._holders(identity)
            self._of_holder.update(connection.holders)
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
            self._devices = _devices(self._security)
        except EdgespecError as error:
            log.error("the tokens were not reloaded: %s", error)
            return
        refused = Refused(_native.ErrorCode.CREDENTIAL, VOID)
        for number, one in self._connections.items():
            if one.identity is not None and not self.knows(one.identity):
                self.audit.record("cut", device_name(one.identity), reason=VOID)
                self.listener.send(number, refused.frame())
                self.listener.disconnect(number)
        log.info("reloaded: %d tokens", len(self._devices or ()))

    def knows(self, identity: bytes) -> bool:
        """Whether this identity may still connect."""
        return self._devices is None or self._devices.newest(device_name(identity)) is not None

    def tenant_of(self, identity: bytes) -> str:
        """Whose device this is; the device itself, where its token names no tenant."""
        name = device_name(identity)
        known = None if self._devices is None else self._devices.newest(name)
        return f"{TENANT}{known.tenant}" if known is not None and known.tenant else name

    def least_latency_ms(self, identity: bytes) -> float | None:
        """The latency target that this device's token grants, if it does."""
        known = None if self._devices is None else self._devices.newest(device_name(identity))
        return None if known is None else known.latency_ms

    def who(self, number: int) -> tuple[str, str]:
        """The device on a connection (nothing: it is not welcomed) and its address."""
        connection = self._connections[number]
        return device_name(connection.identity or ANONYMOUS), connection.address

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
        connection = self._connections[number]
        connection.parts += 1
        if connection.parts > self._offer.most_parts:
            raise Refused(_native.ErrorCode.LIMIT, "the tokenizer was fetched often enough: keep it")
        self.listener.send(number, self._offer.part(asked))

    def _identify(self, credential: bytes, certificate: str) -> bytes:
        if self._devices is None:
            identity = f"certificate {certificate}".encode() if certificate else ANONYMOUS
            self._check_share(identity)
            return identity
        device = self._devices.device_of(credential)
        if device is None:
            raise Refused(
                _native.ErrorCode.CREDENTIAL,
                "this server knows no such token: make one with `edgespec token new`, and give the edge --token-file"
                if credential
                else "this server wants a token: give the edge --token-file",
            )
        identity = f"device {device}".encode()
        self._check_share(identity)
        return identity

    def _check_share(self, identity: bytes) -> None:
        """Raises Refused where a device or its tenant has as many connections as it may."""
        in_all = len(self._connections)
        for holder in self._holders(identity):
            present = self._of_holder[holder]
            too_many = holder == device_name(identity) and present >= self._security.connections_a_device
            if too_many or not may_take(present, in_all - 1, self._most_connections):
                message = f"{holder} has {present} connections: close some"
                raise Refused(_native.ErrorCode.LIMIT, message, retry_after_ms=1000)

    def _holders(self, identity: bytes) -> frozenset[str]:
        names = {device_name(identity), self.tenant_of(identity)}
        return frozenset(names) if identity != ANONYMOUS else frozenset()


def _devices(security: ServerSecurity) -> KnownDevices | None:
    tokens = security.known_tokens()
    return None if tokens is None else KnownDevices(tokens)


def _connections_that_fit() -> int:
    """Connections for which this process may have file descriptors; as many as the system allows it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < MOST_CONNECTIONS + OTHER_FILES:
        wanted = MOST_CONNECTIONS + OTHER_FILES
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY:
        return MOST_CONNECTIONS
    return max(16, min(MOST_CONNECTIONS, soft - OTHER_FILES))


def device_name(identity: bytes) -> str:
    """For people: the device's or certificate's name; nothing for ANONYMOUS."""
    return identity.decode(errors="replace").partition(" ")[2]
