"""A stand-in for Ray and Ray Serve, as far as `edgespec fleet` calls them: one cluster, and what runs on it."""

from __future__ import annotations

import sys
import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import edgespec.fleet


class StubCluster:
    """runs: whether there is one to join. listens: where its directory does; None: there is none. replicas: what each
    says of itself. gone: what every question to it raises. awake: until then none is answered."""

    def __init__(self) -> None:
        self.runs = self.joined = False
        self.listens: tuple[str, int] | None = None
        self.replicas: list[dict[str, Any]] = []
        self.gone: Exception | None = None
        self.awake = threading.Event()
        self.awake.set()
        self.gpus = 0.0
        self.applications: set[str] = set()
        self.options: dict[str, Any] = {}

    def init(self, address: str | None = None, **_: Any) -> None:
        if address is not None and not self.runs:
            raise ConnectionError("Could not find any running Ray instance.\nSee the docs.")
        self.runs = self.joined = True

    def answer(self, value: Any) -> Any:
        self.awake.wait()
        if self.gone is not None:
            raise self.gone
        return value

    def run(self, deployment: Any, name: str, **_: Any) -> None:
        self.answer(None)
        self.applications.add(name)

    def start(self, http_options: dict[str, Any]) -> None:
        self.listens = self.listens or (http_options["host"], http_options["port"])

    def client(self, **_: Any) -> SimpleNamespace | None:
        if self.listens is None:
            return None
        return SimpleNamespace(http_config=SimpleNamespace(host=self.listens[0], port=self.listens[1]))

    def handle(self, *_: Any) -> SimpleNamespace:
        answers = SimpleNamespace(results=lambda timeout_s: self.answer(self.replicas))
        return SimpleNamespace(broadcast=lambda method: answers)

    def deployment(self, _: type) -> SimpleNamespace:
        def options(**given: Any) -> SimpleNamespace:
            self.options = given
            return SimpleNamespace(bind=lambda replica: replica)

        return SimpleNamespace(options=options)


def in_place_of_ray(monkeypatch: pytest.MonkeyPatch) -> StubCluster:
    """Whether that is installed or not."""
    stub = StubCluster()
    serve = ModuleType("ray.serve")
    serve.__dict__.update(
        deployment=stub.deployment,
        start=stub.start,
        run=stub.run,
        status=lambda: stub.answer(SimpleNamespace(applications=stub.applications)),
        delete=lambda name: stub.applications.discard(name),
        get_deployment_handle=stub.handle,
        context=SimpleNamespace(_get_global_client=stub.client),
    )
    config = ModuleType("ray.serve.config")
    config.__dict__.update(
        dict.fromkeys(("AutoscalingConfig", "AutoscalingPolicy", "RequestRouterConfig"), SimpleNamespace)
    )
    ray = ModuleType("ray")
    ray.__dict__.update(
        serve=serve,
        init=stub.init,
        is_initialized=lambda: stub.joined,
        cluster_resources=lambda: {"GPU": stub.gpus} if stub.gpus else {},
    )
    for name, module in (("ray", ray), ("ray.serve", serve), ("ray.serve.config", config)):
        monkeypatch.setitem(sys.modules, name, module)
    # Imported anew, with the stand-in, and by the next test again without it.
    monkeypatch.setitem(sys.modules, "edgespec.fleet.control", ModuleType("none"))
    monkeypatch.setattr(edgespec.fleet, "control", None, raising=False)
    del sys.modules["edgespec.fleet.control"], edgespec.fleet.control
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    return stub
