"""A fleet as Ray Serve runs it: start, look at, end. On the Ray cluster that is there, or one on this machine alone."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import ray
from ray import serve
from ray.serve.config import AutoscalingConfig, AutoscalingPolicy, RequestRouterConfig

from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError, first_line
from edgespec.fleet.replica import Replica, ReplicaSettings
from edgespec.fleet.scaling import by_load

APPLICATION = "edgespec"
DEPLOYMENT = "replica"
OBJECT_STORE_BYTES = 100 << 20
"""Of a cluster on this machine; nothing of ours goes through it."""

HEALTH_PERIOD_S = 1.0
LOOK_BACK_S, UPSCALE_DELAY_S, DOWNSCALE_DELAY_S = 15.0, 5.0, 120.0
"""A load that lasts brings a server soon, and one goes only after a while: starting one costs its loading."""

STATUS_TIMEOUT_S = 20.0

QUIET = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "serve"}


@dataclass(frozen=True)
class FleetSettings:
    """replicas: how many at least; most_replicas: at most, by their load (scaling.py); None: no more. host, port: of
    the directory. cpus, gpus: that Ray keeps for each replica."""

    replicas: int
    host: str = "127.0.0.1"
    port: int = 7400
    cpus: float = 1.0
    gpus: float = 0.0
    most_replicas: int | None = None

    @property
    def scale(self) -> dict[str, Any]:
        """Options of Serve's deployment."""
        if self.most_replicas is None:
            return {"num_replicas": self.replicas}
        policy = AutoscalingPolicy(policy_function=by_load)
        scaled = AutoscalingConfig(
            min_replicas=self.replicas,
            max_replicas=self.most_replicas,
            look_back_period_s=LOOK_BACK_S,
            upscale_delay_s=UPSCALE_DELAY_S,
            downscale_delay_s=DOWNSCALE_DELAY_S,
            policy=policy,
        )
        return {"autoscaling_config": scaled}


def start(fleet: FleetSettings, replica: ReplicaSettings) -> None:
    """Start a fleet, or change the one that runs: replicas are then replaced one by one. Raises EdgespecError."""
    here = "RAY_ADDRESS" not in os.environ
    if _joined(required=not here):
        _check_directory(fleet, here)
    else:
        _check_port(fleet)
        _start_cluster((fleet.most_replicas or fleet.replicas) * fleet.cpus)
    if here:
        _check_gpus(fleet)
    deployment = serve.deployment(Replica).options(
        name=DEPLOYMENT,
        **fleet.scale,
        max_ongoing_requests=256,
        request_router_config=RequestRouterConfig(request_router_class="edgespec.fleet.router.SessionRouter"),
        ray_actor_options={"num_cpus": fleet.cpus, "num_gpus": fleet.gpus},
        health_check_period_s=HEALTH_PERIOD_S,
        graceful_shutdown_timeout_s=replica.drain_s + 10.0,
    )
    try:
        serve.start(http_options={"host": fleet.host, "port": fleet.port})
        serve.run(deployment.bind(replica), name=APPLICATION, route_prefix="/")
    except Exception as error:
        raise EdgespecError(f"the fleet does not start ({first_line(error)}).") from None


def replicas() -> list[dict[str, Any]]:
    """What each replica says of itself (`Replica.status`). Raises EdgespecError where no fleet runs."""
    _joined()
    try:
        handle = serve.get_deployment_handle(DEPLOYMENT, APPLICATION)
        found: list[dict[str, Any]] = handle.broadcast("status").results(timeout_s=STATUS_TIMEOUT_S)
    except Exception as error:
        raise EdgespecError(
            f"no fleet answers ({first_line(error)}): start one with `edgespec fleet up`."
        ) from None
    return sorted(found, key=lambda one: str(one["address"]))


def running() -> bool:
    """Whether the fleet's application is there. Raises EdgespecError where Ray is gone."""
    with _answered():
        return APPLICATION in _in_time(serve.status).applications


def stop() -> None:
    """End the fleet: texts are finished first. Raises EdgespecError where none runs."""
    _joined()
    if not running():
        raise EdgespecError("no fleet runs here: there is nothing to end.")
    with _answered():
        serve.delete(APPLICATION)


def _in_time(call: Callable[[], Any]) -> Any:
    """Where its cluster is gone, Ray waits for it, and ends the process after a minute."""
    answer: Future[Any] = Future()

    def run() -> None:
        try:
            answer.set_result(call())
        except Exception as error:
            answer.set_exception(error)

    threading.Thread(target=run, name="edgespec-fleet", daemon=True).start()
    return answer.result(STATUS_TIMEOUT_S)


@contextmanager
def _answered() -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Ray raises errors of many kinds
        raise EdgespecError(
            f"the Ray cluster does not answer ({first_line(error)}): if it is gone, start the fleet again with "
            "`edgespec fleet up`."
        ) from None


def _check_directory(fleet: FleetSettings, here: bool) -> None:
    """A cluster has one directory, whose address stays."""
    client = serve.context._get_global_client(raise_if_no_controller_running=False)
    if client is not None:
        there = Address(client.http_config.host, client.http_config.port)
        if there != Address(fleet.host, fleet.port):
            raise EdgespecError(
                f"the directory of this Ray cluster listens on {there} already: give that as --host and --port, or end "
                "the cluster (`ray stop`)."
            )
    elif here:
        _check_port(fleet)


def _check_port(fleet: FleetSettings) -> None:
    """Serve would try again for ever."""
    try:
        family, _, _, _, address = socket.getaddrinfo(fleet.host, fleet.port, type=socket.SOCK_STREAM)[0]
        socket.create_server(address[:2], family=family).close()
    except OSError as error:
        where = Address(fleet.host, fleet.port)
        raise EdgespecError(
            f"the directory cannot listen on {where} ({error.strerror}): give another --host or --port."
        ) from None


def _check_gpus(fleet: FleetSettings) -> None:
    """Serve would wait for ever. A cluster that RAY_ADDRESS names may grow."""
    there, needed = ray.cluster_resources().get("GPU", 0.0), fleet.gpus * fleet.replicas
    if needed > there:
        raise EdgespecError(
            f"{fleet.replicas} servers need {needed:g} GPUs, and this cluster has {there:g}: change --gpus or "
            "--replicas."
        )


def _joined(required: bool = True) -> bool:
    """Whether this process is in the cluster that RAY_ADDRESS names or that runs on this machine. Raises EdgespecError
    where one is required."""
    if ray.is_initialized():
        return True
    logging.getLogger("ray.serve").setLevel(logging.WARNING)
    try:
        ray.init(address=os.environ.get("RAY_ADDRESS", "auto"), **QUIET)
        return True
    except ConnectionError as error:
        if not required:
            return False
        raise EdgespecError(
            f"there is no Ray cluster ({first_line(error)}): start a fleet with `edgespec fleet up`, or give "
            "RAY_ADDRESS."
        ) from None


def _start_cluster(cpus: float) -> None:
    """On this machine alone."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    most = max(cpus + 2, os.cpu_count() or 1)  # cores are shared on one machine
    try:
        ray.init(num_cpus=int(most), include_dashboard=False, object_store_memory=OBJECT_STORE_BYTES, **QUIET)
    except Exception as error:  # it raises bare ones
        raise EdgespecError(f"Ray does not start on this machine ({first_line(error)}): try again.") from None
