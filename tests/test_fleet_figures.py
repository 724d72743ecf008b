"""What the fleet's benchmark says of texts (benchmarks/fleet_figures.py of the source tree)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if not (ROOT / "benchmarks" / "fleet_figures.py").exists():
    pytest.skip("the benchmarks are not here", allow_module_level=True)
sys.path.append(str(ROOT))

from benchmarks.devices import Arrival, Outcome  # noqa: E402
from benchmarks.fleet_figures import (  # noqa: E402
    first_s,
    gap_s,
    overrun_share,
    runs_at,
    spread_s,
    token_ms,
    tokens_between,
)


def text(*arrivals: tuple[float, str], forward_ms: float = 100.0) -> Outcome:
    """A text with a token at each of these times, from these servers; its session was opened at 0."""
    came = [Arrival(at_s, 1, server, forward_ms) for at_s, server in arrivals]
    return Outcome(0, tokens=[1] * len(came), first_ms=100.0, arrivals=came)


def test_times_of_a_text() -> None:
    one = text((0.5, "a"), (1.0, "a"), (3.0, "b"), (3.5, "b"))
    assert (gap_s(one), first_s(one)) == (2.0, 0.5)
    assert token_ms([one, text((0.5, "a"))]) == (3500.0 + 500.0) / 5
    assert [runs_at(one, at_s) for at_s in (0.4, 0.5, 3.4, 3.5)] == [False, True, True, False]
    assert tokens_between([one, one], 1.0, 3.5) == 4
    assert gap_s(Outcome(0)) == first_s(Outcome(0)) == 0.0


def test_forwards_that_read_a_prompt_are_no_overruns() -> None:
    slow = text((1.0, "a"), (2.0, "a"), forward_ms=104.0)
    fast = text((1.0, "a"), (2.0, "a"), (3.0, "a"), (4.0, "a"))
    assert overrun_share([slow, fast], 100.0) == 0.25
    assert overrun_share([text((1.0, "a"), forward_ms=900.0)], 100.0) == 0.0


def test_a_load_is_spread_again_when_a_new_server_has_its_share() -> None:
    stayed = [text((0.0, server), (60.0, server)) for server in ("a", "b")]
    moved = text((0.0, "lost"), (11.0, "a"), (60.0, "a"))
    returned = text((14.5, "new"), (60.0, "new"))
    assert spread_s([*stayed, moved], 10.0, "lost", 3, 1) is None
    assert spread_s([*stayed, moved, returned], 10.0, "lost", 3, 1) == 5.0
    assert spread_s([*stayed, moved, returned], 10.0, "lost", 3, 2) is None
