"""The manifests say what the commands take: their options, ports and metrics are edgespec's own."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from edgespec.cli.fleet import up
from edgespec.cli.serve import serve

yaml = pytest.importorskip("yaml")
FOLDER = Path(__file__).parent.parent / "packaging" / "kubernetes"
METRICS = Path(__file__).parent.parent / "edgespec" / "server"


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def parse(command: click.Command, arguments: list[str]) -> dict[str, Any]:
    return command.make_context("edgespec", list(arguments), resilient_parsing=False).params


def test_the_deployment_starts_a_server_as_serve_takes_it() -> None:
    (container,) = documents("servers.yaml")[0]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["edgespec", "serve"]
    arguments = [text.replace("$(NODE_ADDRESS)", "10.0.0.1") for text in container["args"]]
    given = parse(serve, arguments)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (ports["edgespec"], ports["metrics"]) == (given["port"], given["metrics_port"])
    assert given["advertise"] == f"10.0.0.1:{container['ports'][0]['hostPort']}"


def test_the_ray_job_starts_a_fleet_as_fleet_up_takes_it() -> None:
    job, service = documents("kuberay.yaml")
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:3] == ["edgespec", "fleet", "up"]
    given = parse(up, words[3:])
    workers = job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]
    assert given["replicas"] == workers["replicas"]
    head = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]
    ports = {port["name"]: port["containerPort"] for port in head["spec"]["containers"][0]["ports"]}
    assert ports["directory"] == given["port"]
    assert service["spec"]["selector"] == head["metadata"]["labels"]


@pytest.mark.parametrize(("name", "kinds"), [("servers.yaml", 5), ("kuberay.yaml", 1)])
def test_kubernetes_own_kinds_follow_its_schemas(name: str, kinds: int) -> None:
    """Of Ray's and Prometheus' kinds there are none."""
    kubernetes = pytest.importorskip("kubernetes_validate")
    own = [one for one in documents(name) if "ray.io" not in one["apiVersion"]]
    assert len(own) == kinds
    for one in own:
        kubernetes.validate(one, "1.31", strict=True)


def test_metrics_that_the_manifests_name_are_there() -> None:
    text = (FOLDER / "monitoring.yaml").read_text(encoding="utf-8")
    sources = "".join(
        (METRICS / file).read_text(encoding="utf-8") for file in ("metrics.py", "monitoring.py")
    )
    names = re.findall(r"edgespec:(\w+)", text)
    assert names
    assert all(f'"{name}"' in sources for name in names)
