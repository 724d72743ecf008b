"""Exits in company: they run where they cost next to nothing, and what they cost is measured again and again."""

from __future__ import annotations

import pytest

from edgespec.verifying.exit_worth import EXPLORE, ExitWorth


def share_with_exits(added_ms: float, sessions: int, forwards: int = 320) -> float:
    """The share of forwards that run their exits, when these add `added_ms` to 28."""
    worth, chosen = ExitWorth(), 0
    for number in range(forwards):
        rows = 8 + number % 4
        exits = worth(sessions, rows)
        worth.observe(exits, rows, 28.0 + 0.1 * rows + (added_ms if exits else 0.0))
        chosen += exits
    return chosen / forwards


@pytest.mark.parametrize(("added_ms", "often"), [(0.5, True), (8.0, False)])
def test_exits_run_in_company_where_they_add_little(added_ms: float, often: bool) -> None:
    share = share_with_exits(added_ms, 8)
    assert share > 0.9 if often else 0 < share < 0.1


def test_a_session_alone_decides_for_itself() -> None:
    assert share_with_exits(20.0, 1) == 1.0


def test_what_has_changed_is_found_out() -> None:
    worth = ExitWorth()
    for number in range(40 * EXPLORE):
        exits = worth(8, 8)
        worth.observe(exits, 8, 28.0 + (20.0 if exits and number < 100 else 0.0))
    assert sum(worth(8, 8) for _ in range(EXPLORE)) == EXPLORE - 1


def test_one_ruinous_forward_keeps_exits_away_from_those_on_their_way() -> None:
    worth, exits = ExitWorth(), []
    for number in range(20):
        exits.append(worth(1, 8) and number >= 8)
        worth.observe(exits[-1], 8, 150.0 if exits[-1] else 28.0)
    assert exits[8:14] == [True, False, False, False, False, True]
