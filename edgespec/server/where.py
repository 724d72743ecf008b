"""What a server answers to `POST /where`: its own address, for a session that would like to run here.

A router in front spreads the questions over servers. A server that is draining or full says 503 and when to ask again,
so the router can try another one.
"""

from __future__ import annotations

import json
import math
import threading
import time
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from dataclasses import dataclass, field

from edgespec.core.address import Address, parse_address
from edgespec.core.errors import EdgespecError
from edgespec.core.target_identity import same_target
from edgespec.core.where import Place, Question
from edgespec.model.target_engine import PageCounts
from edgespec.server.server import Server

RETRY_S = 1

LOOP_TIMEOUT_S = 0.002
"""How long an answer waits for the server's loop to say how full the memory is; then the last figure serves."""

FRESH_S = 0.2
"""How long a figure of the loop serves: many devices that ask at once do not each wait for a thread to wake up."""

EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Hosts to listen on that are no address to call, and what this machine itself may call there."""


@dataclass(frozen=True)
class Advertised:
    """What devices are told. advertise: the address to call; None: where the server listens. tls_name: the name in its
    certificate, where that is not the address's host."""

    advertise: str | None = None
    tls_name: str | None = None

    def address(self, host: str, port: int) -> Address | None:
        """None: the server listens everywhere, and nobody said how it is called. Raises EdgespecError."""
        if self.advertise is not None:
            return parse_address(self.advertise, default_port=port)
        return None if host in EVERYWHERE else Address(host, port)


NOT_ADVERTISED = Advertised()


@dataclass
class WhereAnswers:
    """Of one server. Called by the HTTP endpoint's threads."""

    server: Server
    pages: PageCounts
    advertised: Advertised
    _taken: tuple[float, bool] = (0.0, False)
    """Of the key-value memory and the latency that may be promised, the larger share that is taken, and whether no
    memory can be had."""
    _looked_s: float = -math.inf
    _asked: Future[tuple[float, bool]] | None = None
    """The newest look, which the server's loop may not have taken yet."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        """A status, headers and a JSON body."""
        server = self.server
        try:
            question = Question.from_json(body)
            address = self.advertised.address(server.host, server.port)
        except EdgespecError as error:
            return _refusal(400, str(error))
        if question.model is not None and not same_target(question.model, server.target_id):
            return _refusal(404, f"this server serves {server.target_id}, not {question.model}")
        if address is None:
            return _refusal(500, "this server listens everywhere: start it with --advertise HOST:PORT")
        if server.sessions.draining:
            return _refusal(503, "this server is being stopped")
        load, full = self._load()
        if full:
            return _refusal(503, "this server is full")
        place = Place(address, server.target_id, load, self.advertised.tls_name)
        return 200, {}, place.to_json()

    def load(self) -> float:
        """The largest share that is taken: of sessions, key-value memory, or the latency that may be promised."""
        return self._load()[0]

    def _load(self) -> tuple[float, bool]:
        """And whether no session more fits."""
        sessions = len(self.server.sessions.table) / self.server.max_sessions
        taken, full = self._taken_now()
        return min(1.0, max(sessions, taken)), full or sessions >= 1.0

    def _taken_now(self) -> tuple[float, bool]:
        """Questions that come before the loop has looked share one look, and only the first waits for it."""
        with self._lock:
            waits = self._asked is not None and not self._asked.done()
            if waits or time.monotonic() - self._looked_s < FRESH_S:
                return self._taken
            asked = self._asked = self.server.call(self._look)
        try:
            return asked.result(LOOP_TIMEOUT_S)
        except NotInTime:
            return self._taken

    def _look(self) -> tuple[float, bool]:
        """In the server's loop."""
        used, count = self.pages.used, self.pages.count
        idle = any(
            one.verifier.finish is not None and one.reserved for one in self.server.sessions.table.values()
        )
        self._taken = max(used / count, self.server.promised), used >= count and not idle
        self._looked_s = time.monotonic()
        return self._taken


def _refusal(status: int, sentence: str) -> tuple[int, dict[str, str], bytes]:
    headers = {"Retry-After": str(RETRY_S)} if status == 503 else {}
    return status, headers, json.dumps({"error": sentence}).encode()
