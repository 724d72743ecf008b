"""The edge's side of the handshake: find the server, say HELLO, be welcomed; and errors in words."""

from __future__ import annotations

from typing import NamedTuple

from edgespec import _native
from edgespec._version import __version__
from edgespec.errors import EdgespecError

DEFAULT_PORT = 7433


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


DEFAULT_SERVER = Address("127.0.0.1", DEFAULT_PORT)


def parse_address(address: str | tuple[str, int]) -> Address:
    """ "HOST:PORT", "[IPv6]:PORT", "HOST" (port 7433) or (host, port). Raises EdgespecError on anything else."""
    if not isinstance(address, str):
        return Address(*address)
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise EdgespecError(f"{address!r} is not an address: give HOST:PORT, such as {DEFAULT_SERVER}.")
    return Address(host, int(port))


def connect(
    address: Address, vocabulary_hash: bytes, timeout_s: float
) -> tuple[_native.Connection, _native.Welcome]:
    """Connect and be welcomed. Raises EdgespecError with the reason when the server is absent, silent or refuses."""
    try:
        connection = _native.Connection(address.host, address.port, timeout_s)
    except OSError as error:
        raise EdgespecError(
            f"there is no server at {address} ({error}): start one with `edgespec serve`, or check the address."
        ) from None
    try:
        connection.send(_native.encode_hello(vocabulary_hash=vocabulary_hash, agent=f"edgespec/{__version__}"))
        answer = connection.receive(timeout_s)
    except ConnectionError as error:
        connection.close()
        raise EdgespecError(f"the server at {address} hung up during the handshake ({error}).") from None
    if isinstance(answer, _native.Welcome):
        return connection, answer
    connection.close()
    if isinstance(answer, _native.Error):
        raise EdgespecError(explain(answer, address))
    raise EdgespecError(f"{address} did not answer as an edgespec server within {timeout_s:g} s: check the address.")


def explain(error: _native.Error, address: Address) -> str:
    """What a server's ERROR says, as a sentence."""
    wait = f" (try again in {error.retry_after_ms / 1e3:g} s)" if error.retryable and error.retry_after_ms else ""
    return f"the server at {address} refused: {error.message}{wait}"
