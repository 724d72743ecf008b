"""The Grafana dashboard asks for metrics that devices and servers really export."""

from __future__ import annotations

import json
import re
import urllib.request
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from api_server import open_api
from prometheus_client.parser import text_string_to_metric_families
from stubs import StubTarget, serving

from edgespec.server.metrics import Metrics
from edgespec.server.monitoring import monitoring

DASHBOARD = json.loads(
    (Path(__file__).parent.parent / "packaging" / "grafana" / "dashboard.json").read_text(encoding="utf-8")
)
SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def exported(exposition: str) -> set[str]:
    """The names that a query can ask for."""
    families = list(text_string_to_metric_families(exposition))
    assert families
    return {family.name + suffix for family in families for suffix in SUFFIXES[family.type]}


def asked(job: str) -> set[str]:
    """The names that the panels of a job ask for; each query says which job it is about."""
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    found = [re.findall(r'(edgespec:\w+)\{job=~"\$(\w+)"', query) for query in queries]
    assert all(
        len(names) == query.count("edgespec:") > 0 for names, query in zip(found, queries, strict=True)
    )
    return {name for names in found for name, of in names if of == job}


def test_devices_export_what_is_asked_of_them() -> None:
    with open_api() as (_, door):
        names = exported(door.metrics.exposition().decode())
    assert asked("devices") and asked("devices") <= names


def test_servers_export_what_is_asked_of_them() -> None:
    pages: Any = SimpleNamespace(used=1, count=2, reclaimable=0, size=16)
    with (
        serving(StubTarget()) as server,
        monitoring(server, Metrics(), pages, ("127.0.0.1", 0)) as port,
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer,
    ):
        names = exported(answer.read().decode())
    assert asked("servers") and asked("servers") <= names


def test_every_panel_has_its_own_place_and_number() -> None:
    panels = DASHBOARD["panels"]
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels]
    assert len({panel["id"] for panel in panels}) == len(set(places)) == len(panels)
