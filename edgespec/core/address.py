"""Where servers listen: HOST:PORT, read from what users write."""

from collections.abc import Sequence
from typing import NamedTuple

from edgespec.core.errors import EdgespecError

DEFAULT_PORT = 7433


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


DEFAULT_SERVER = Address("127.0.0.1", DEFAULT_PORT)

AnAddress = str | tuple[str, int]


def parse_address(address: AnAddress, default_port: int = DEFAULT_PORT, lowest_port: int = 1) -> Address:
    """ "HOST:PORT", "[IPv6]:PORT", "HOST" (the default port) or (host, port). Raises EdgespecError on anything else.

    lowest_port: 0 where a port 0 means any free one.
    """
    if not isinstance(address, str):
        return Address(*address)
    text = address.strip()
    host, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, port = text, str(default_port)
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdecimal()) or not lowest_port <= int(port) < 65536:
        raise EdgespecError(f"{address!r} is not an address: give HOST:PORT, such as {DEFAULT_SERVER}.")
    return Address(host, int(port))


def parse_addresses(servers: AnAddress | Sequence[AnAddress]) -> list[Address]:
    """One address, several in a sequence, or several in a string with commas between."""
    if isinstance(servers, str):
        return [parse_address(server) for server in servers.split(",")]
    if len(servers) == 2 and isinstance(servers[0], str) and isinstance(servers[1], int):
        return [Address(servers[0], servers[1])]
    if not servers:
        raise EdgespecError(f"a session needs the address of a server, such as {DEFAULT_SERVER}.")
    return [parse_address(server) for server in servers]  # type: ignore[arg-type]
