"""Waiting for company, on a simulated clock: sessions that fell out of step come together, and nobody waits in vain."""

from __future__ import annotations

import math

from edgespec.verifying.batching_delay import BatchingDelay


def cost_ms(rows: int) -> float:
    return 8.0 + 0.5 * rows


def forwards_in(
    seconds: float, sessions: int, rows: int, turnaround_s: float, batching_delay: BatchingDelay | None
) -> tuple[int, int]:
    """How many forwards `sessions` have in all, and how many ran; half of them begin half a forward late."""
    now_s, verdicts, forwards = 0.0, 0, 0
    ready_at_s = [0.0 if number % 2 else 0.006 for number in range(sessions)]
    while now_s < seconds:
        ready = [number for number, at_s in enumerate(ready_at_s) if at_s <= now_s]
        absent_s = [at_s - now_s for at_s in ready_at_s if at_s > now_s]
        delay_s = batching_delay.wait_s(len(ready), absent_s, now_s) if batching_delay and ready else 0.0
        if not ready:
            now_s = min(ready_at_s)
            continue
        if delay_s:
            now_s += delay_s
            continue
        now_s += cost_ms(len(ready) * rows) / 1e3
        verdicts += len(ready)
        forwards += 1
        for number in ready:
            ready_at_s[number] = now_s + turnaround_s
        if batching_delay:
            batching_delay.observe(len(ready), len(ready) * rows, now_s)
    return verdicts, forwards


def test_sessions_that_fell_out_of_step_come_together_and_have_more_forwards() -> None:
    apart, many = forwards_in(10.0, 8, 4, 0.003, None)
    together, few = forwards_in(10.0, 8, 4, 0.003, BatchingDelay(cost_ms))
    assert few < 0.7 * many
    assert together > 1.1 * apart


def test_devices_that_take_long_are_not_waited_for() -> None:
    apart = forwards_in(10.0, 8, 4, 0.040, None)
    assert forwards_in(10.0, 8, 4, 0.040, BatchingDelay(cost_ms)) == apart


def test_a_session_alone_waits_for_nobody() -> None:
    assert BatchingDelay(cost_ms).wait_s(1, [], 5.0) == 0.0


def test_the_server_never_idles_longer_than_its_share_of_the_forward_that_could_run() -> None:
    batching_delay = BatchingDelay(cost_ms)
    batching_delay.observe(4, 16, 1.0)
    assert 0 < batching_delay.wait_s(4, [0.002] * 4, 1.0) <= 0.002
    assert batching_delay.wait_s(4, [0.002] * 4, 1.1) == 0.0
    assert batching_delay.wait_s(4, [math.inf] * 4, 1.0) == 0.0


def test_nothing_is_waited_for_while_nothing_is_known_of_the_cost() -> None:
    batching_delay = BatchingDelay(lambda rows: 0.0)
    batching_delay.observe(4, 16, 1.0)
    assert batching_delay.wait_s(4, [0.001] * 4, 1.0) == 0.0


def test_low_priority_sessions_wait_longer_for_others_but_not_for_ever() -> None:
    batching_delay = BatchingDelay(cost_ms)
    batching_delay.observe(1, 1, 0.0)
    assert batching_delay.wait_s(1, [0.02], 0.0) == 0.0
    assert batching_delay.wait_s(1, [0.02], 0.0, low_priority=True) == 0.02
    assert batching_delay.wait_s(1, [0.02], 0.02, low_priority=True) == 0.0
    assert batching_delay.wait_s(1, [0.2], 0.0, low_priority=True) == 0.0
    assert batching_delay.wait_s(1, [], 0.0, low_priority=True) == 0.0
