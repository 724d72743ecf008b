"""How a session's link is made and kept up: times, hedging, and how edge and server know each other.

What they say about TLS and tokens is turned into the native layer's terms here.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgespec import _native
from edgespec.core.access import check_showing, credential
from edgespec.core.errors import EdgespecError


@dataclass(frozen=True)
class LinkOptions:
    """How hard a link is kept up, and how it is kept safe.

    timeout_s: to connect and be welcomed at first. hedge: hold a second connection, and send again on it what is not
    acknowledged in time. dead_after_s: a connection that is silent for so long is given up. give_up_s: with no server
    for so long a step raises. offline_after_s: with no server for so long the draft goes on alone; None: never.
    busy_spin: threads that wait for the link poll it. This takes a core, and saves the time to wake up.

    tls_ca: the authority (PEM file) that signed the servers' certificates; with it the link is encrypted. tls_name: the
    name in those certificates, for servers that are called by address; "": each one's host. tls_cert, tls_key: this
    device's own certificate, for servers that ask for one. token: what `edgespec token new` printed. insecure: the
    token may be sent in the clear to other machines.
    """

    timeout_s: float = 10.0
    hedge: bool = True
    dead_after_s: float = 2.5
    give_up_s: float = 30.0
    offline_after_s: float | None = None
    busy_spin: bool = False
    tls_ca: str | Path | None = None
    tls_name: str = ""
    tls_cert: str | Path | None = None
    tls_key: str | Path | None = None
    token: str | None = field(default=None, repr=False)
    insecure: bool = False

    @functools.cached_property
    def tls(self) -> _native.Tls | None:
        """One for all links with these options: a later one resumes TLS where an earlier one ended."""
        if bool(self.tls_cert) != bool(self.tls_key) or (self.tls_cert and not self.tls_ca):
            raise EdgespecError(
                "a device's certificate needs its key and the servers' authority: "
                "give --tls-cert, --tls-key and --tls-ca together."
            )
        if self.tls_ca is None:
            return None
        try:
            return _native.Tls.client(str(self.tls_ca), str(self.tls_cert or ""), str(self.tls_key or ""))
        except _native.TlsError as error:
            raise EdgespecError(f"{error}.") from None

    def credential(self, hosts: Sequence[str]) -> bytes:
        """What HELLO says to these hosts. Raises EdgespecError for a token that is none, or that others would see."""
        if not self.token:
            return b""
        check_showing(hosts, encrypted=self.tls_ca is not None, insecure=self.insecure)
        return credential(self.token)
