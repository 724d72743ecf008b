"""A deployment of Ray Serve that does nothing, beside a fleet: what Serve's own proxy takes for a question."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


class Empty:
    """Answers every request with an empty object."""

    async def __call__(self, request: Any) -> Any:
        from starlette.responses import Response

        return Response(b"{}", media_type="application/json")


@contextmanager
def empty_deployment(path: str) -> Iterator[None]:
    """On the cluster that runs here, at this path of the fleet's own directory."""
    import ray
    from ray import serve

    ray.init(address="auto", namespace="serve", log_to_driver=False)
    deployment = serve.deployment(Empty).options(
        name="empty", max_ongoing_requests=256, ray_actor_options={"num_cpus": 0}
    )
    try:
        serve.run(deployment.bind(), name="empty", route_prefix=path)
        yield
        serve.delete("empty")
    finally:
        ray.shutdown()
