"""The verifying loop alone: whom a forward considers."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edgespec.core.server_options import ServerOptions
from edgespec.verifying.loop import VerifyingLoop
from edgespec.verifying.scheduler import Limits
from edgespec.verifying.session import VerifyingSession
from edgespec.verifying.verifier import Verifier, VerifierLimits


def loop_of(devices: str, rows: int, cost: Callable[[int], float] | None = None) -> VerifyingLoop:
    """A session for each letter, its device; each has waited longer than the next."""
    loop = VerifyingLoop(cost, Limits(rows=rows))
    for number, device in enumerate(devices):
        verifier = Verifier([1, 2, 3], 100, ServerOptions(fill=True), VerifierLimits(256))
        loop.sessions[number] = VerifyingSession(number, device, verifier, float(number))
    return loop


def test_a_device_has_no_more_sessions_considered_than_a_forward_has_rows() -> None:
    loop = loop_of("aaaaabab", rows=4)
    assert [session.number for session in loop.ready(10.0)] == [0, 1, 2, 3, 5, 7]


@pytest.mark.parametrize(("row_ms", "of_a_device"), [(0.0, 64), (0.5, 14), (8.0, 12)])
def test_beside_another_device_twice_the_sessions_that_may_have_a_row_are_considered(
    row_ms: float, of_a_device: int
) -> None:
    """Each session's prompt has 3 rows, so that 6 are equal shares. 3 rows of another device may become 1.25 times as
    slow: with 0.5 ms a row beside 8 ms that is a forward of 7 rows."""
    loop = loop_of("a" * 100 + "b", rows=64, cost=lambda rows: 8.0 + row_ms * rows)
    assert len(loop.ready(200.0)) == of_a_device + 1
    loop.sessions.popitem()
    assert len(loop.ready(200.0)) == 64, "alone it slows itself as it likes"


def test_of_one_device_those_that_are_connected_and_have_a_target_come_first() -> None:
    loop = loop_of("aaaaa", rows=2)
    loop.sessions[0].set_away(1.0)
    loop.sessions[4].latency_ms = 50.0
    assert sorted(session.number for session in loop.ready(10.0)) == [1, 4]
