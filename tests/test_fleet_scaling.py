"""A fleet under Ray Serve grows while its servers are full. Needs edgespec[ray]; `make fleet` runs it."""

from __future__ import annotations

import importlib.util
from contextlib import ExitStack

import pytest

from edgespec.cli.child import child
from edgespec.core.params import SamplingParams
from edgespec.edge.session import Session

pytestmark = [
    pytest.mark.needs_torch,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs edgespec[ray]"),
]
TOKENS = 4


def test_a_session_that_no_server_has_room_for_is_served_by_a_new_one() -> None:
    command = [
        "fleet",
        "up",
        "--replicas",
        "1",
        "--max-replicas",
        "2",
        "--max-sessions",
        "2",
        "--port",
        "7497",
    ]
    options = ["--threads", "1", "--kv-memory", "64MiB", "--drain-s", "2"]
    with child([*command, *options], "") as (host, port), ExitStack() as open_sessions:
        addresses = []
        for _ in range(3):
            params = SamplingParams(max_new_tokens=TOKENS, ignore_eos=True)
            one = Session(directory=f"http://{host}:{port}", mode="cloud", params=params, timeout_s=300.0)
            open_sessions.enter_context(one)
            one.prompt("def read_lines(path):\n    ")
            assert sum(len(step.tokens) for step in one) == TOKENS
            addresses.append(one.address)
    assert addresses[0] == addresses[1] != addresses[2]
