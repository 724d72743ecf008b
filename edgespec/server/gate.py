"""The server's gate: where it listens, who may come in, and the connections that have.

A connection says HELLO and is welcomed under an identity, its device's, or refused. The link lets a session be resumed
by the identity that opened it only (csrc/net/listener.hpp). Sessions are the server's business.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgespec import _native
from edgespec.core.access import KnownToken, check_exposure, device_of
from edgespec.core.errors import EdgespecError
from edgespec.server.refusal import Refused
from edgespec.server.tokens import read_tokens

log = logging.getLogger("edgespec.server")

ANYBODY = b""
"""The identity of an edge that did not have to say who it is."""

VOID = "the device's tokens are void"


@dataclass(frozen=True)
class ServerSecurity:
    """Who may come in. tls_cert, tls_key: with them the link is encrypted; tls_client_ca: edges must show a certificate
    that this authority signed; tokens: the file of `edgespec token`; insecure: anybody may come from anywhere."""

    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    tokens: Path | None = None
    insecure: bool = False
    connections_a_device: int = 64

    def check(self, host: str) -> None:
        """Raises EdgespecError where a server on this host would let strangers in, or a file is wrong."""
        check_exposure(
            host,
            encrypted=self.tls_cert is not None,
            authenticated=bool(self.tokens or self.tls_client_ca),
            insecure=self.insecure,
        )
        self.tls()
        self.known_tokens()

    def known_tokens(self) -> list[KnownToken] | None:
        """Of the devices that may come in; None: no token is asked for."""
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


@dataclass
class _Guest:
    """A connection. identity: once it is welcomed."""

    certificate: str
    identity: bytes | None = None


class Gate:
    """Listens; `port` 0 takes a free one. Raises EdgespecError where it may not, or cannot."""

    def __init__(
        self,
        host: str,
        port: int,
        security: ServerSecurity,
        *,
        dead_after_s: float,
        busy_spin: bool,
        pinning: tuple[int, int] | None = None,
    ) -> None:
        security.check(host)
        self._security = security
        self._tokens = security.known_tokens()
        self._guests: dict[int, _Guest] = {}
        try:
            self.listener = _native.Listener(
                host,
                port,
                dead_after_s=dead_after_s,
                tls=security.tls(),
                busy_spin=busy_spin,
                pinning=pinning,
            )
        except OSError as error:
            raise EdgespecError(f"cannot listen on {host}:{port} ({error}): choose another --port.") from None

    def __contains__(self, number: int) -> bool:
        """Whether this number is a connection's."""
        return number in self._guests

    @property
    def welcomed(self) -> list[int]:
        return [number for number, guest in self._guests.items() if guest.identity is not None]

    def hear(self, number: int, message: Any, welcome: bytes, vocabulary_hash: bytes) -> None:
        """An event of a connection. Raises Refused."""
        if isinstance(message, _native.Connected):
            self._guests[number] = _Guest(message.certificate)
        elif isinstance(message, _native.Disconnected):
            del self._guests[number]
        elif isinstance(message, _native.Hello) and self._guests[number].identity is None:
            self._check(message, vocabulary_hash)
            identity = self._identify(message.credential, self._guests[number].certificate)
            self._guests[number].identity = identity
            self.listener.welcome(number, welcome, identity)
        else:
            raise Refused(_native.ErrorCode.PROTOCOL, "say HELLO first, once, and wait for the WELCOME")

    def reload(self) -> None:
        """Read certificates and tokens again; who is unknown now is sent away. What cannot be read changes nothing."""
        try:
            tokens, tls = self._security.known_tokens(), self._security.tls()
        except EdgespecError as error:
            log.error("nothing was reloaded: %s", error)
            return
        self._tokens = tokens
        if tls is not None:
            self.listener.set_tls(tls)
        self._send_unknown_away()
        log.info("reloaded: %d tokens", len(tokens or ()))

    def knows(self, identity: bytes) -> bool:
        """Whether whoever came in under this identity still may."""
        return self._tokens is None or identity in {identity_of_token(token.device) for token in self._tokens}

    def _check(self, hello: _native.Hello, vocabulary_hash: bytes) -> None:
        if not hello.version_min <= _native.PROTOCOL_VERSION <= hello.version_max:
            raise Refused(
                _native.ErrorCode.VERSION,
                f"this server speaks protocol version {_native.PROTOCOL_VERSION}, the edge {hello.version_min} to "
                f"{hello.version_max}: install the same edgespec on both",
            )
        if hello.vocabulary_hash != vocabulary_hash:
            raise Refused(
                _native.ErrorCode.VOCABULARY,
                "the draft's tokenizer is not the target's: compile a draft that shares the target's tokenizer",
            )

    def _identify(self, credential: bytes, certificate: str) -> bytes:
        if self._tokens is None:
            return identity_of_certificate(certificate) if certificate else ANYBODY
        device = device_of(credential, self._tokens)
        if device is None:
            raise Refused(
                _native.ErrorCode.CREDENTIAL,
                "this server knows no such token: make one with `edgespec token new`, and give the edge --token-file"
                if credential
                else "this server wants a token: give the edge --token-file",
            )
        identity = identity_of_token(device)
        present = Counter(guest.identity for guest in self._guests.values())[identity]
        if present >= self._security.connections_a_device:
            raise Refused(
                _native.ErrorCode.LIMIT, f"{device} has {present} connections: close some", retryable=True
            )
        return identity

    def _send_unknown_away(self) -> None:
        refused = Refused(_native.ErrorCode.CREDENTIAL, VOID)
        for number, guest in self._guests.items():
            if guest.identity is not None and not self.knows(guest.identity):
                self.listener.send(number, refused.frame(0))
                self.listener.disconnect(number)


def identity_of_token(device: str) -> bytes:
    return f"device {device}".encode()


def identity_of_certificate(name: str) -> bytes:
    return f"certificate {name}".encode()


def device_name(identity: bytes) -> str:
    """For people: the device's or certificate's name; nothing for ANYBODY."""
    return identity.decode(errors="replace").partition(" ")[2]
