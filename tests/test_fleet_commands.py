"""`edgespec fleet` without Ray: each command that fails says why in one sentence, with status 2 and no traceback."""

from __future__ import annotations

import socket

import pytest
from stub_ray import StubCluster, in_place_of_ray
from test_cli import complaint

from edgespec.cli import fleet
from edgespec.cli.main import main

pytestmark = pytest.mark.needs_torch
REPLICA = {
    "address": "127.0.0.1:40001",
    "state": "serving",
    "sessions": 1,
    "running": 1,
    "tokens": 100,
    "pid": 77,
}


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> StubCluster:
    monkeypatch.setattr(fleet, "LOOK_S", 0.0)
    for name in fleet.RAY_SETTINGS:
        monkeypatch.setenv(name, "set by this test")
    return in_place_of_ray(monkeypatch)


@pytest.mark.parametrize("command", ["status", "top", "down"])
def test_where_there_is_no_cluster_a_command_says_how_to_start_a_fleet(
    cluster: StubCluster, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    assert "edgespec fleet up" in complaint(capsys, "fleet", command)


def test_down_ends_the_fleet_that_runs_and_says_where_none_does(
    cluster: StubCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.runs, cluster.applications = True, {"edgespec", "of another"}
    with pytest.raises(SystemExit) as ended:
        main(["fleet", "down"])
    assert ended.value.code == 0 and cluster.applications == {"of another"}
    assert "nothing to end" in complaint(capsys, "fleet", "down")


def test_top_shows_the_servers_until_the_cluster_is_gone(
    cluster: StubCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.runs, cluster.replicas = True, [REPLICA]

    def pass_time(seconds: float) -> None:
        if cluster.replicas[0]["tokens"] == 100:
            cluster.replicas = [{**REPLICA, "tokens": 130}]
        else:
            cluster.gone = RuntimeError("The controller died.\nTrace follows.")

    monkeypatch.setattr(fleet.time, "sleep", pass_time)
    with pytest.raises(SystemExit) as ended:
        main(["fleet", "top", "--every-s", "2"])
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.err.count("\n") == 1 and "no fleet answers" in said.err
    assert "127.0.0.1:40001" in said.out and "15.0" in said.out


def up(port: int, *more: str) -> list[str]:
    return ["fleet", "up", "--replicas", "2", "--port", str(port), *more]


def test_a_port_that_is_taken_is_said_before_a_cluster_is_started(
    cluster: StubCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"cannot listen on 127.0.0.1:{port}" in complaint(capsys, *up(port))
        cluster.runs = True
        assert f"cannot listen on 127.0.0.1:{port}" in complaint(capsys, *up(port))
    assert not cluster.applications


def test_a_fleet_that_runs_keeps_its_port_and_another_one_is_refused(
    cluster: StubCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.runs, cluster.listens = True, ("127.0.0.1", 7400)
    assert "listens on 127.0.0.1:7400 already" in complaint(capsys, *up(7401))
    assert not cluster.applications


def test_gpus_that_the_machine_does_not_have_are_refused(
    cluster: StubCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.runs, cluster.listens, cluster.gpus = True, ("127.0.0.1", 7400), 1.0
    assert "need 2 GPUs, and this cluster has 1" in complaint(capsys, *up(7400, "--gpus", "1"))
    monkeypatch.setattr(fleet, "when_stdin_ends", lambda end: cluster.applications.clear())
    with pytest.raises(SystemExit) as ended:
        main(up(7400, "--gpus", "0.5", "--end-with-stdin"))
    assert ended.value.code == 0 and cluster.options["ray_actor_options"]["num_gpus"] == 0.5


def test_a_cluster_that_goes_away_ends_the_fleet_with_a_sentence(
    cluster: StubCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster.runs, cluster.listens = True, ("127.0.0.1", 7400)

    def lose(_: object) -> None:
        cluster.gone = RuntimeError("GCS is not reachable.\nTrace follows.")

    monkeypatch.setattr(fleet, "when_stdin_ends", lose)
    with pytest.raises(SystemExit) as ended:
        main(up(7400, "--end-with-stdin"))
    said = capsys.readouterr()
    assert ended.value.code == 2 and said.out == "edgespec: fleet listening on 127.0.0.1:7400\n"
    assert said.err.count("\n") == 1 and "the Ray cluster does not answer (GCS is not reachable" in said.err


def test_a_cluster_that_does_not_answer_is_not_waited_for(
    cluster: StubCluster, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgespec.fleet.control.STATUS_TIMEOUT_S", 0.01)
    cluster.runs = True
    cluster.awake.clear()
    assert "the Ray cluster does not answer (TimeoutError)" in complaint(capsys, "fleet", "down")
    cluster.awake.set()
