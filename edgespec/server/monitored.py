"""A server and those who watch it: the metrics endpoint, and the gauges that it reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from edgespec.model.target_engine import TargetEngine
from edgespec.server.server import Server

ANSWER_S = 10.0
"""How long the endpoint waits for the server's loop, which may be in the middle of a forward."""


@contextmanager
def watched(
    target: TargetEngine, host: str, port: int, watch: tuple[str, int] | None, options: Mapping[str, Any]
) -> Iterator[Server]:
    """A server that listens, and tells who asks at `watch` (host and port; 0: a free one). Raises EdgespecError."""
    if watch is None:
        yield Server(target, host, port, **options)
        return
    from edgespec.server.metrics import Metrics
    from edgespec.server.metrics_endpoint import MetricsEndpoint

    metrics = Metrics()
    server = Server(target, host, port, metrics=metrics, **options)
    pages = target.pages
    metrics.watch("num_requests_running", "Texts that are not finished.", lambda: server.running)
    metrics.watch("sessions_open", "Sessions that are open, finished texts included.", lambda: server.open)
    metrics.watch(
        "kv_cache_usage_perc", "Share of the key-value pages in use.", lambda: pages.used / pages.count
    )
    metrics.watch("kv_prefix_pages", "Pages that are kept as prefixes alone.", lambda: pages.reclaimable)
    endpoint = MetricsEndpoint(
        *watch,
        metrics=lambda: server.call(metrics.text).result(ANSWER_S),
        sessions=lambda: server.call(server.summaries).result(ANSWER_S),
        healthy=lambda: not server.draining,
    )
    server.metrics_port = endpoint.port
    try:
        yield server
    finally:
        endpoint.close()
