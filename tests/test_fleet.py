"""A fleet under Ray Serve, with the bundled pair: a server killed in mid-text, the directory, and the cluster's end.

Needs edgespec[ray]; `make fleet` runs it in an environment of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import directories
import pytest
from directories import Answer
from faults import FaultProxy

from edgespec.cli.child import COMMAND, Child, started
from edgespec.core.address import Address
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.where import Question
from edgespec.edge.directory import Directory
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine

pytestmark = [
    pytest.mark.needs_torch,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs edgespec[ray]"),
]
PROMPT = "def read_lines(path):\n    "
TOKENS = 60


@pytest.fixture(scope="module")
def fleet() -> Iterator[Child]:
    command = ["fleet", "up", "--replicas", "3", "--port", "7498", "--threads", "1", "--kv-memory", "64MiB"]
    with started([*command, "--verify-pace-ms", "20", "--drain-s", "2"], "") as one:
        yield one


@pytest.fixture(scope="module")
def directory(fleet: Child) -> str:
    return url(fleet)


def url(fleet: Child) -> str:
    host, port = fleet.address
    return f"http://{host}:{port}"


def edgespec(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, check=False, timeout=300)


def replicas() -> dict[str, dict[str, Any]]:
    rows = json.loads(edgespec("fleet", "status", "--json").stdout)["replicas"]
    return {row["address"]: row for row in rows}


def session(directory: str, temperature: float) -> Session:
    params = SamplingParams(temperature=temperature, seed=7, max_new_tokens=TOKENS, ignore_eos=True)
    return Session(directory=directory, draft=bundled_engine(), params=params)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_text_goes_on_when_its_server_is_killed(directory: str, temperature: float) -> None:
    with session(directory, temperature) as one:
        one.prompt(PROMPT)
        undisturbed = [token for step in one for token in step.tokens]
    there = replicas()
    tokens: list[int] = []
    events: list[str] = []
    with session(directory, temperature) as one:
        one.prompt(PROMPT)
        for step in one:
            if len(tokens) <= 20 < len(tokens) + len(step.tokens):
                os.kill(there[str(one.address)]["pid"], signal.SIGKILL)
            tokens += step.tokens
            events += step.events
    assert tokens == undisturbed
    assert any("re-opened at" in event for event in events)


def test_what_the_fleet_says_of_itself(directory: str) -> None:
    shown = replicas()
    assert 1 <= len(shown) <= 3
    for address, row in shown.items():
        assert address.startswith("127.0.0.1:") and row["state"] == "serving"
        assert row["target_id"].startswith("bundled@")
    assert "serving" in edgespec("fleet", "status").stdout


def test_questions_under_one_name_are_answered_by_one_server(directory: str) -> None:
    """So a session that comes back finds its keys and values, whichever names others have."""
    asked = Directory(directory)
    found = {name: {asked.ask(Question(name)).address for _ in range(5)} for name in map(str, range(12))}
    assert all(len(addresses) == 1 for addresses in found.values())
    assert len(set().union(*found.values())) > 1


def test_a_session_that_lost_its_link_goes_on_at_its_server(directory: str) -> None:
    ports: list[int] = []

    def answer(question: Question) -> Answer:
        place = Directory(directory).ask(question)
        ports.append(place.address.port)
        return 200, {}, replace(place, address=Address("127.0.0.1", proxy.port)).to_json()

    events: list[str] = []
    with FaultProxy(0) as proxy, directories.directory(answer) as asked:
        proxy.choose = lambda: ports[-1]
        with session(asked.url, 0.0) as one:
            one.prompt(PROMPT)
            for step in one:
                if len(ports) == 1 and step.tokens:
                    proxy.cut()
                events += step.events
    assert len(one.tokens) == TOKENS and len(ports) > 1 and len(set(ports)) == 1
    assert any("reconnected to" in event for event in events)


def test_a_fleet_that_runs_refuses_another_port(directory: str) -> None:
    done = edgespec("fleet", "up", "--port", "7496")
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "already" in done.stderr


def test_top_shows_the_servers_until_it_is_interrupted(directory: str) -> None:
    ours, terminal = os.openpty()
    with subprocess.Popen([*COMMAND, "fleet", "top"], stdout=terminal, stderr=subprocess.PIPE) as top:
        os.close(terminal)
        shown = b""
        while b"serving" not in shown:
            shown += os.read(ours, 4096)
        top.send_signal(signal.SIGINT)
        assert top.communicate(timeout=60)[1].strip() == b"" and top.returncode == 130
    os.close(ours)


def test_a_cluster_that_does_not_start_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgespec.fleet import control

    def init(address: str | None = None, **_: Any) -> None:
        raise (
            ConnectionError("none is there") if address else Exception("The node timed out. It may be busy.")
        )

    monkeypatch.setattr(control, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(EdgespecError, match="Ray does not start on this machine"):
        control._start_cluster(2.0)


def test_a_text_whose_cluster_is_gone_goes_on_or_ends_with_a_sentence(fleet: Child) -> None:
    """The last of these tests: no server is left. Its server ends a little later than the cluster."""
    params = SamplingParams(max_new_tokens=400, ignore_eos=True)
    link = LinkOptions(give_up_s=5.0)
    with Session(directory=url(fleet), draft=bundled_engine(), params=params) as one:
        one.prompt(PROMPT)
        undisturbed = [token for step in one for token in step.tokens]
    tokens: list[int] = []
    with Session(directory=url(fleet), draft=bundled_engine(), params=params, link=link) as one:
        one.prompt(PROMPT)
        try:
            for step in one:
                if not tokens:
                    subprocess.run(["pkill", "-KILL", "-P", str(fleet.process.pid)], check=True)
                tokens += step.tokens
            assert tokens == undisturbed
        except EdgespecError as error:
            assert "the server went away" in str(error) and "\n" not in str(error)
    assert tokens and tokens == undisturbed[: len(tokens)]
    assert fleet.process.wait(120) != 0  # 2 with a sentence, unless Ray ends the process first
