"""The edge's side of the handshake: find the server, say HELLO, be welcomed; and errors in words."""

from collections.abc import Sequence
from typing import NamedTuple

from edgespec import _native
from edgespec._version import __version__
from edgespec.core.address import DEFAULT_PORT
from edgespec.core.errors import EdgespecError
from edgespec.edge.link_options import LinkOptions


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


DEFAULT_SERVER = Address("127.0.0.1", DEFAULT_PORT)

AnAddress = str | tuple[str, int]


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


def parse_addresses(servers: AnAddress | Sequence[AnAddress]) -> list[Address]:
    """One address, several in a sequence, or several in a string with commas between."""
    if isinstance(servers, str):
        return [parse_address(server.strip()) for server in servers.split(",")]
    if len(servers) == 2 and isinstance(servers[0], str) and isinstance(servers[1], int):
        return [Address(servers[0], servers[1])]
    if not servers:
        raise EdgespecError(f"a session needs the address of a server, such as {DEFAULT_SERVER}.")
    return [parse_address(server) for server in servers]  # type: ignore[arg-type]


def connect(
    servers: Sequence[Address], vocabulary_hash: bytes, options: LinkOptions
) -> tuple[_native.ResilientConnection, _native.Welcome]:
    """Connect to the first server that answers, and be welcomed; the native connection keeps the link up from then on.

    Raises EdgespecError with the reason when the servers are absent, silent or refuse.
    """
    timeout_s = options.timeout_s
    credential = options.credential([server.host for server in servers])
    resilient_connection = _native.ResilientConnection(
        [(server.host, server.port) for server in servers],
        _native.encode_hello(
            vocabulary_hash=vocabulary_hash, agent=f"edgespec/{__version__}", credential=credential
        ),
        hedge=options.hedge,
        timeout_s=timeout_s,
        dead_after_s=options.dead_after_s,
        give_up_s=options.give_up_s,
        offline_after_s=options.offline_after_s,
        tls=options.tls,
        busy_spin=options.busy_spin,
    )
    try:
        answer = resilient_connection.receive(timeout_s)
    except ConnectionError as error:
        tried = " or ".join(str(server) for server in servers)
        raise EdgespecError(
            f"there is no server at {tried} ({error}): {_advice(str(error), options)}."
        ) from None
    if isinstance(answer, _native.Welcome):
        return resilient_connection, answer
    address = Address(*resilient_connection.address)
    resilient_connection.close()
    if isinstance(answer, _native.Error):
        raise EdgespecError(explain(answer, address))
    raise EdgespecError(
        f"{address} did not answer as an edgespec server within {timeout_s:g} s: check the address."
    )


def _advice(reason: str, options: LinkOptions) -> str:
    if "not trusted" in reason:
        return "give the authority that signed its certificate with --tls-ca, and call it by a name in the certificate"
    if "does not speak TLS" in reason:
        return "leave --tls-ca out, or start it with --tls-cert and --tls-key"
    if "closed the connection" in reason and options.tls is None:
        return "it may want TLS: give the fleet's authority with --tls-ca"
    return "start one with `edgespec serve`, or check the address"


def explain(error: _native.Error, address: Address) -> str:
    """What a server's ERROR says, as a sentence."""
    wait = (
        f" (try again in {error.retry_after_ms / 1e3:g} s)"
        if error.retryable and error.retry_after_ms
        else ""
    )
    return f"the server at {address} refused: {error.message}{wait}"
