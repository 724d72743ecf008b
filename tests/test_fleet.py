"""A fleet under Ray Serve, with the bundled pair: one of three servers is killed in mid-text, and the text goes on.

Needs edgespec[ray]; `make fleet` runs it in an environment of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from edgespec.cli.child import COMMAND, child
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
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
def directory() -> Iterator[str]:
    command = ["fleet", "up", "--replicas", "3", "--port", "7498", "--threads", "1", "--kv-memory", "64MiB"]
    with child([*command, "--verify-pace-ms", "20", "--drain-s", "2"], "") as (host, port):
        yield f"http://{host}:{port}"


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


def test_a_cluster_that_does_not_start_is_told_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    from edgespec.fleet import control

    def init(address: str | None = None, **_: Any) -> None:
        raise (
            ConnectionError("none is there") if address else Exception("The node timed out. It may be busy.")
        )

    monkeypatch.setattr(control, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(EdgespecError, match="Ray does not start on this machine"):
        control._connect(may_start=True)
