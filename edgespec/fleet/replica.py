"""A replica of a fleet: an edgespec server in a Ray actor, on a port of its own.

Ray Serve routes `POST /where` to some replica, which answers with its own address; sessions never pass through Ray.
Serve places replicas, starts them again when they die, and asks them to end: then texts are finished first.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from edgespec.core.address import Address
from edgespec.core.garbage import leave_loaded_out
from edgespec.core.where import TOO_LONG, may_be_read
from edgespec.fleet.scaling import LOAD
from edgespec.model.target_engine import TargetEngine
from edgespec.server.metrics import Metrics
from edgespec.server.monitoring import monitoring
from edgespec.server.server import Server
from edgespec.server.settings import ServerSettings
from edgespec.server.where import EVERYWHERE, Advertised, WhereAnswers


@dataclass(frozen=True)
class ReplicaSettings:
    """load: loads the target, in the replica. host: where each server listens. tls_name: see `Advertised`. drain_s: how
    long a replica that is to end waits for its texts. target_load: that the fleet is scaled to (scaling.py)."""

    load: Callable[[], TargetEngine]
    server: ServerSettings
    host: str = "127.0.0.1"
    tls_name: str | None = None
    drain_s: float = 30.0
    target_load: float = 0.7


class Replica:
    """Ray Serve makes it, calls it with HTTP requests, checks it and ends it."""

    _ends = False

    def __init__(self, settings: ReplicaSettings) -> None:
        target = settings.load()
        metrics = Metrics()
        self._drain_s, self._target_load = settings.drain_s, settings.target_load
        self._server = Server(target, settings.host, 0, replace(settings.server, metrics=metrics))
        self._metrics = metrics
        address = _called(settings.host, self._server.port)
        advertised = Advertised(address, settings.tls_name)
        self._where = WhereAnswers(self._server, target.pages, advertised)
        self._stack = ExitStack()
        port = self._stack.enter_context(
            monitoring(self._server, metrics, target.pages, (settings.host, 0), advertised)
        )
        self._metrics_address = _called(settings.host, port)
        self._address = address
        leave_loaded_out()
        self._thread = threading.Thread(target=self._server.run, name="edgespec-server", daemon=True)
        self._thread.start()

    async def __call__(self, request: Request) -> Response:
        if request.url.path != "/where" or request.method != "POST":
            return PlainTextResponse("POST /where asks for a server\n", 404)
        if not may_be_read(request.headers.get("content-length")):
            return PlainTextResponse(f"{TOO_LONG}\n", 413)
        status, headers, body = self._where(await request.body())
        return Response(body, status, headers, media_type="application/json")

    def status(self) -> dict[str, Any]:
        """For `edgespec fleet status`, of one replica."""
        sessions = self._server.sessions
        summaries = self._server.call(sessions.summaries).result(10.0)
        return {
            "address": self._address,
            "metrics": self._metrics_address,
            "target_id": self._server.target_id,
            "pid": os.getpid(),
            "state": "draining" if sessions.draining else "serving",
            "sessions": len(summaries),
            "running": sum(one["state"] == "open" for one in summaries),
            "tokens": self._metrics.generated,
        }

    def record_autoscaling_stats(self) -> dict[str, float]:
        """For Ray Serve, which asks for it about every ten seconds and gives it to scaling.py."""
        return {LOAD: self._where.load() / self._target_load}

    def check_health(self) -> None:
        """Raises where the server has ended."""
        if not self._thread.is_alive():
            raise RuntimeError("the server of this replica has ended")

    def __del__(self) -> Coroutine[Any, Any, None] | None:
        """Serve's word that the replica is to end: finish the texts, send the devices elsewhere. Serve awaits what this
        returns; meanwhile questions that still come here are refused, not left waiting."""
        if self._ends or not hasattr(self, "_thread"):
            return None
        self._ends = True
        return asyncio.to_thread(self._end)

    def _end(self) -> None:
        self._server.drain(self._drain_s)
        self._thread.join(self._drain_s + 5.0)
        self._stack.close()


def _called(host: str, port: int) -> str:
    """The address of a server that listens there, as others call it."""
    if host in EVERYWHERE:
        import ray

        host = ray.util.get_node_ip_address()
    return str(Address(host, port))
