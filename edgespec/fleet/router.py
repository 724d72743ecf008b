"""Ray Serve's router of `POST /where`: by the session's name, which its proxy reads from the header X-Session-Id."""

from __future__ import annotations

from collections.abc import Sequence

from ray.serve.request_router import PendingRequest, RequestRouter, RunningReplica

from edgespec.fleet.affinity import ranked


class SessionRouter(RequestRouter):  # type: ignore[misc]
    """Serve makes it where questions arrive, and tries the replicas in the order that it gives."""

    async def choose_replicas(
        self, candidate_replicas: Sequence[RunningReplica], pending_request: PendingRequest | None = None
    ) -> list[list[RunningReplica]]:
        if pending_request is None:
            return [list(candidate_replicas)]
        pending_request.routing_context.should_backoff = True  # wait before all are tried again
        metadata = pending_request.metadata
        replicas = {one.replica_id.unique_id: one for one in candidate_replicas}
        name = metadata.session_id or metadata.internal_request_id
        return [[replicas[server]] for server in ranked(name, replicas)]
