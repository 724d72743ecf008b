"""What a small device does to its programs: a full disk, a clock that is set, a processor that slows down."""

from __future__ import annotations

import json
import resource
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from edgespec.cli.child import COMMAND
from edgespec.core.costs import LinearCost
from edgespec.core.params import SamplingParams
from edgespec.core.whole_files import save_json
from edgespec.edge.device_session import DeviceSession
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_output_to_a_full_disk_ends_with_a_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "--version"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert "No space left on device" in done.stderr and "Traceback" not in done.stderr


def test_a_file_that_does_not_fit_leaves_the_old_one(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    save_json({"old": 1}, file)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_json({"new": 2}, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert json.loads(file.read_text()) == {"old": 1} and list(tmp_path.iterdir()) == [file]


def test_a_clock_that_is_set_changes_neither_text_nor_times(monkeypatch: pytest.MonkeyPatch) -> None:
    def text() -> tuple[list[int], float | None]:
        with DeviceSession(load_draft(bundled_engine()), SamplingParams(max_new_tokens=16)) as session:
            session.prompt("def read_lines(path):\n")
            list(session)
            return session.tokens, session.statistics.tokens_per_s

    expected, _ = text()
    years_s = iter(range(0, 10**12, 10**7))
    jumping: Any = lambda: float(next(years_s))  # noqa: E731
    monkeypatch.setattr(time, "time", jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(jumping() * 1e9))
    tokens, tokens_per_s = text()
    assert tokens == expected
    assert tokens_per_s is None or tokens_per_s > 1e-3, "a year between two tokens"


def test_the_measured_cost_follows_a_processor_that_slows_down_and_recovers() -> None:
    cost = LinearCost()
    for milliseconds in (2.0, 8.0, 2.0):
        for run in range(150):
            cost.observe(1 + run % 4, milliseconds + 0.1 * (run % 4))
        assert cost(1) == pytest.approx(milliseconds, rel=0.15)
