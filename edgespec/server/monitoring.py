"""What a running server says by HTTP: /metrics for Prometheus, /health, /sessions for `edgespec top`, POST /where.

The endpoint has its own threads. It asks the server's loop for figures once a second at most, however often it is read.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from edgespec.core.errors import EdgespecError
from edgespec.core.network import network_of
from edgespec.core.where import TOO_LONG, may_be_read
from edgespec.model.target_engine import PageCounts
from edgespec.server.metrics import Metrics
from edgespec.server.rate import Rates
from edgespec.server.server import Server
from edgespec.server.where import NOT_ADVERTISED, Advertised, WhereAnswers

ANSWER_TIMEOUT_S = 10.0
"""How long the endpoint waits for the server's loop, which may be in the middle of a forward."""

KEPT_S = 1.0
"""For so long a page stays as it is."""

MOST_READERS = 64
"""Connections served at once; others are closed."""

MOST_ASKING = 32
"""Of them, those whose request has not come in full. A newcomer takes the place of the oldest."""

ASKING_S = 5.0
"""For so long a request may take to come."""

REQUESTS_PER_S, REQUESTS_AT_ONCE = 200, 1000
"""Of one address, or one IPv6 network; further connections are closed before anything is read."""

Page = Callable[[], tuple[int, str, bytes]]
"""Gives a status, a content type and a body."""


@contextmanager
def monitoring(
    server: Server,
    metrics: Metrics,
    pages: PageCounts,
    address: tuple[str, int],
    advertised: Advertised = NOT_ADVERTISED,
) -> Iterator[int]:
    """Serve the metrics of a server at `address` (host and port; 0: a free one); the port. advertised: what devices are
    told of where it is. Raises EdgespecError."""
    sessions = server.sessions
    gauges: dict[str, tuple[str, Callable[[], float]]] = {
        "num_requests_running": ("Texts that are not finished.", lambda: sessions.unfinished),
        "sessions_open": ("Sessions that are open, finished texts included.", lambda: len(sessions.table)),
        "kv_cache_usage_perc": ("Share of the key-value pages in use.", lambda: pages.used / pages.count),
        "kv_prefix_pages": ("Pages that are kept as prefixes alone.", lambda: pages.reclaimable),
    }
    for name, (help_text, _) in gauges.items():
        metrics.add_gauge(name, help_text)

    def values() -> dict[str, float]:
        return {name: value() for name, (_, value) in gauges.items()}

    def metrics_page() -> tuple[int, str, bytes]:
        metrics.set_gauges(server.call(values).result(ANSWER_TIMEOUT_S))
        return 200, "text/plain; version=0.0.4; charset=utf-8", metrics.text()

    def sessions_page() -> tuple[int, str, bytes]:
        summaries = server.call(sessions.summaries).result(ANSWER_TIMEOUT_S)
        return 200, "application/json", json.dumps(summaries).encode()

    def health_page() -> tuple[int, str, bytes]:
        return (503, "text/plain", b"draining\n") if sessions.draining else (200, "text/plain", b"ok\n")

    by_path: dict[str, Page] = {
        "/metrics": _Kept(metrics_page),
        "/sessions": _Kept(sessions_page),
        "/health": health_page,
    }
    with _endpoint(address, by_path, WhereAnswers(server, pages, advertised)) as endpoint:
        threading.Thread(target=endpoint.serve_forever, name="edgespec-metrics", daemon=True).start()
        try:
            yield int(endpoint.server_address[1])
        finally:
            endpoint.shutdown()


class _Kept:
    """A page that is made anew once it is older than `KEPT_S`."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._lock = threading.Lock()
        self._made_s = -KEPT_S
        self._content = (503, "text/plain", b"")

    def __call__(self) -> tuple[int, str, bytes]:
        with self._lock:
            if time.monotonic() - self._made_s >= KEPT_S:
                self._content = self._page()
                self._made_s = time.monotonic()
            return self._content


class _Endpoint(ThreadingHTTPServer):
    """A connection that dribbles must not keep others out: only those whose request has come hold a place."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        if ":" in address[0]:
            self.address_family = socket.AF_INET6
        self._readers = threading.BoundedSemaphore(MOST_READERS)
        self._asking_since_s: dict[socket.socket, float] = {}
        self._arrivals = Rates(REQUESTS_PER_S, REQUESTS_AT_ONCE)
        super().__init__(address, handler)

    def verify_request(self, request: object, client_address: tuple[str, int]) -> bool:
        return self._arrivals.take(network_of(client_address[0]), time.monotonic())

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        asking = list(self._asking_since_s)
        if len(asking) >= MOST_ASKING:
            self._give_up(asking[0])
        if self._readers.acquire(blocking=False):
            self._asking_since_s[request] = time.monotonic()
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def service_actions(self) -> None:
        """Called twice a second, and after each connection."""
        for request, since_s in list(self._asking_since_s.items()):
            if time.monotonic() - since_s > ASKING_S:
                self._give_up(request)

    def asked(self, request: socket.socket) -> None:
        """The request has come in full, or its connection has ended."""
        self._asking_since_s.pop(request, None)

    def _give_up(self, request: socket.socket) -> None:
        """Its thread finds that nothing more comes, and ends."""
        self.asked(request)
        with suppress(OSError):
            request.shutdown(socket.SHUT_RDWR)

    def process_request_thread(self, request: socket.socket, client_address: tuple[str, int]) -> None:  # type: ignore[override]
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.asked(request)
            self._readers.release()


def _endpoint(
    address: tuple[str, int], pages: Mapping[str, Page], where: WhereAnswers
) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            self._asked()
            page = pages.get(self.path.partition("?")[0])
            nowhere = (404, "text/plain", f"there are {', '.join(pages)}\n".encode())
            status, kind, body = nowhere if page is None else page()
            self._answer(status, {"Content-Type": kind}, body)

        def do_POST(self) -> None:
            length = self.headers["Content-Length"]
            if self.path.partition("?")[0] != "/where":
                return self._answer(404, {}, b"POST goes to /where\n")
            if not may_be_read(length):
                return self._answer(413, {}, f"{TOO_LONG}\n".encode())
            question = self.rfile.read(int(length))
            self._asked()
            status, headers, body = where(question)
            self._answer(status, {"Content-Type": "application/json", **headers}, body)

        def _asked(self) -> None:
            assert isinstance(self.server, _Endpoint)
            self.server.asked(self.connection)

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: requests do not go into the server's log."""

    try:
        return _Endpoint(address, Handler)
    except OSError as error:
        host, port = address
        raise EdgespecError(
            f"cannot serve metrics on {host}:{port} ({error.strerror}): choose another --metrics-port."
        ) from None
