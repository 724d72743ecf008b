"""`edgespec demo --fleet` under Ray: a server is killed, and the text is the same. `make fleet` runs it."""

from __future__ import annotations

import importlib.util
import subprocess

import pytest

from edgespec.cli.child import COMMAND

pytestmark = [
    pytest.mark.needs_torch,
    pytest.mark.timeout(600),
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs edgespec[ray]"),
]


def test_the_demo_of_a_fleet_kills_a_server_and_shows_the_same_text() -> None:
    done = subprocess.run(
        [*COMMAND, "demo", "--fleet"], capture_output=True, text=True, check=False, timeout=500
    )
    assert done.returncode == 0, done.stderr
    assert "-- killed the server at" in done.stdout and "re-opened at" in done.stdout
    assert done.stdout.endswith("identical: yes\n") and "Traceback" not in done.stderr
