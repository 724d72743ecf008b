"""The server's gate: where it listens, who may come in, and the connections that have.

A connection says HELLO, and is welcomed under its device's identity or refused. A session can only be resumed by the
identity that opened it (csrc/net/listener.hpp).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from edgespec import _native
from edgespec.core.access import device_of
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer_archive import NO_HASH
from edgespec.server.refusal import Refused
from edgespec.server.settings import ServerSettings
from edgespec.server.tokenizer_offer import TokenizerOffer

log = logging.getLogger("edgespec.server")

ANONYMOUS = b""
"""The identity of an edge that need not say who it is."""

VOID = "the device's tokens are void"


@dataclass
class _Connection:
    """identity: once it is welcomed. parts: of the tokenizer that it was sent."""

    certificate: str
    identity: bytes | None = None
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
        self._tokens = security.known_tokens()
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
            self._connections[number] = _Connection(message.certificate)
        elif isinstance(message, _native.Disconnected):
            del self._connections[number]
        elif isinstance(message, _native.Hello) and self._connections[number].identity is None:
            self._check(message)
            identity = self._identify(message.credential, self._connections[number].certificate)
            self._connections[number].identity = identity
            self.listener.welcome(number, self._welcome, identity)
        elif isinstance(message, _native.Fetch) and self._connections[number].identity is not None:
            self._send_part(number, message)
        else:
            raise Refused(_native.ErrorCode.PROTOCOL, "say HELLO first, once, and wait for the WELCOME")

    def reload(self) -> None:
        """Read certificates and tokens again, and disconnect devices that are no longer known. An unreadable file
        changes nothing."""
        try:
            tokens, tls = self._security.known_tokens(), self._security.tls()
        except EdgespecError as error:
            log.error("nothing was reloaded: %s", error)
            return
        self._tokens = tokens
        if tls is not None:
            self.listener.set_tls(tls)
        refused = Refused(_native.ErrorCode.CREDENTIAL, VOID)
        for number, one in self._connections.items():
            if one.identity is not None and not self.knows(one.identity):
                self.listener.send(number, refused.frame())
                self.listener.disconnect(number)
        log.info("reloaded: %d tokens", len(tokens or ()))

    def knows(self, identity: bytes) -> bool:
        """Whether this identity may still connect."""
        return self._tokens is None or identity in {
            f"device {token.device}".encode() for token in self._tokens
        }

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
        if self._tokens is None:
            return f"certificate {certificate}".encode() if certificate else ANONYMOUS
        device = device_of(credential, self._tokens)
        if device is None:
            raise Refused(
                _native.ErrorCode.CREDENTIAL,
                "this server knows no such token: make one with `edgespec token new`, and give the edge --token-file"
                if credential
                else "this server wants a token: give the edge --token-file",
            )
        identity = f"device {device}".encode()
        present = sum(one.identity == identity for one in self._connections.values())
        if present >= self._security.connections_a_device:
            message = f"{device} has {present} connections: close some"
            raise Refused(_native.ErrorCode.LIMIT, message, retry_after_ms=0)
        return identity


def device_name(identity: bytes) -> str:
    """For people: the device's or certificate's name; nothing for ANONYMOUS."""
    return identity.decode(errors="replace").partition(" ")[2]
