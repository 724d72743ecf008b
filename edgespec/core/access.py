"""Who may come in: where a server may listen, the tokens of devices, and whether an edge may show its own. Pure.

A token is 256 random bits in words that can be pasted. The edge says it in HELLO; the server's file holds only its
SHA-256, so a copy of the file is of no use. tokens.py keeps that file.
"""

from __future__ import annotations

import base64
import hashlib
import ipaddress
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from edgespec.core.errors import EdgespecError

TOKEN_BYTES = 32
TOKEN_PREFIX = "edgespec-"
DEVICE_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class KnownToken:
    """A token as a server knows it. made: a day, such as 2026-11-23. tenant: whose device it is; the devices of a
    tenant share what one tenant may have. latency_ms: the lowest latency target that it may ask for, whoever else is
    served; None: the server's own."""

    device: str
    digest: bytes
    made: str
    tenant: str = ""
    latency_ms: float | None = None


class KnownDevices:
    """The tokens of a server, found by their digests: how long that takes depends neither on what is shown nor on how
    many there are."""

    def __init__(self, tokens: Iterable[KnownToken]) -> None:
        self._by_digest = {token.digest: token for token in tokens}
        self._by_device = {token.device: token for token in self._by_digest.values()}

    def __len__(self) -> int:
        return len(self._by_digest)

    def device_of(self, shown: bytes) -> str | None:
        """The device whose credential this is, or None. Only digests are compared: whoever shows a credential does not
        choose its digest, so the time of a look-up tells nothing."""
        token = self._by_digest.get(digest(shown))
        return None if token is None else token.device

    def newest(self, device: str) -> KnownToken | None:
        """The token that says what this device may; None: it is not known."""
        return self._by_device.get(device)


def new_token() -> str:
    return TOKEN_PREFIX + base64.urlsafe_b64encode(secrets.token_bytes(TOKEN_BYTES)).decode().rstrip("=")


def credential(token: str) -> bytes:
    """What HELLO carries for a token: its 32 bytes. Raises EdgespecError, which does not repeat what was given."""
    wrong = EdgespecError("this is not a token: give what `edgespec token new` printed.")
    text = token.strip()
    if not text.startswith(TOKEN_PREFIX):
        raise wrong
    try:
        raw = base64.b64decode(text.removeprefix(TOKEN_PREFIX) + "=", altchars=b"-_", validate=True)
    except ValueError:
        raise wrong from None
    if len(raw) != TOKEN_BYTES:
        raise wrong
    return raw


def digest(shown: bytes) -> bytes:
    """What a server keeps of a credential. The bits are random, so no salt and no slow hash is needed."""
    return hashlib.sha256(shown).digest()


def check_device_name(name: str, what: str = "device") -> str:
    if not DEVICE_NAME.fullmatch(name):
        raise EdgespecError(f"{name!r} is no name for a {what}: use up to 64 letters, digits, dots, dashes.")
    return name


def is_loopback(host: str) -> bool:
    """Whether this host is certainly this machine; any name but localhost may be another."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_exposure(host: str, *, encrypted: bool, authenticated: bool, insecure: bool) -> None:
    """Raises EdgespecError where a server would let strangers in, or read along."""
    if insecure or is_loopback(host) or (encrypted and authenticated):
        return
    missing = [
        *([] if encrypted else ["TLS (--tls-cert and --tls-key; `edgespec tls init` makes them)"]),
        *([] if authenticated else ["tokens (--tokens; `edgespec token new` makes them)"]),
    ]
    raise EdgespecError(
        f"{host} can be reached from other machines, and so needs {' and '.join(missing)}: "
        "add them, listen on 127.0.0.1, or give --insecure on a network where everybody may use this server."
    )


def check_showing(hosts: Iterable[str], *, encrypted: bool, insecure: bool) -> None:
    """Raises EdgespecError where an edge would send its token unencrypted to another machine."""
    for host in hosts:
        if not (encrypted or insecure or is_loopback(host)):
            raise EdgespecError(
                f"a token is not sent to {host} in the clear: give the fleet's authority with --tls-ca, "
                "or --insecure where something else encrypts the way there."
            )
