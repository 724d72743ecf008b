"""The HTTP endpoint of a server: /metrics for Prometheus, /health for a supervisor, /sessions for `edgespec top`.

It has its own thread, and asks the server's loop for what it answers.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edgespec.core.errors import EdgespecError


class MetricsEndpoint:
    """Serves until `close`. metrics, sessions: what to answer; healthy: whether new sessions are accepted.

    Raises EdgespecError where the port is taken.
    """

    def __init__(
        self,
        host: str,
        port: int,
        metrics: Callable[[], bytes],
        sessions: Callable[[], list[dict[str, Any]]],
        healthy: Callable[[], bool],
    ) -> None:
        def health() -> tuple[int, str, bytes]:
            return (200, "text/plain", b"ok\n") if healthy() else (503, "text/plain", b"draining\n")

        pages: dict[str, Callable[[], tuple[int, str, bytes]]] = {
            "/metrics": lambda: (200, "text/plain; version=0.0.4; charset=utf-8", metrics()),
            "/sessions": lambda: (200, "application/json", json.dumps(sessions()).encode()),
            "/health": health,
        }
        try:
            self._server = ThreadingHTTPServer((host, port), _handler(pages))
        except OSError as error:
            raise EdgespecError(
                f"cannot serve metrics on {host}:{port} ({error.strerror}): choose another --metrics-port."
            ) from None
        self._server.daemon_threads = True
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, name="edgespec-metrics", daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _handler(pages: dict[str, Callable[[], tuple[int, str, bytes]]]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5.0

        def do_GET(self) -> None:
            page = pages.get(self.path.partition("?")[0])
            nowhere = (404, "text/plain", f"there are {', '.join(pages)}\n".encode())
            status, kind, body = nowhere if page is None else page()
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: requests do not go into the server's log."""

    return Handler
