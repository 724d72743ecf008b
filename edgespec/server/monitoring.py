"""What an operator reads of a running server: gauges of its state, and the endpoint that serves all metrics."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgespec.model.target_engine import PageCounts
from edgespec.server.metrics import Metrics
from edgespec.server.metrics_endpoint import MetricsEndpoint
from edgespec.server.server import Server

ANSWER_TIMEOUT_S = 10.0
"""How long the endpoint waits for the server's loop, which may be in the middle of a forward."""


@contextmanager
def monitoring(
    server: Server, metrics: Metrics, pages: PageCounts, address: tuple[str, int]
) -> Iterator[int]:
    """Serve the metrics of a server at `address` (host and port; 0: a free one); the port. Raises EdgespecError."""
    sessions = server.sessions
    gauges = {
        "num_requests_running": ("Texts that are not finished.", lambda: sessions.unfinished),
        "sessions_open": ("Sessions that are open, finished texts included.", lambda: len(sessions.table)),
        "kv_cache_usage_perc": ("Share of the key-value pages in use.", lambda: pages.used / pages.count),
        "kv_prefix_pages": ("Pages that are kept as prefixes alone.", lambda: pages.reclaimable),
    }
    for name, (help_text, value) in gauges.items():
        metrics.add_gauge(name, help_text, value)
    endpoint = MetricsEndpoint(
        *address,
        metrics=lambda: server.call(metrics.text).result(ANSWER_TIMEOUT_S),
        sessions=lambda: server.call(sessions.summaries).result(ANSWER_TIMEOUT_S),
        healthy=lambda: not sessions.draining,
    )
    try:
        yield endpoint.port
    finally:
        endpoint.close()
