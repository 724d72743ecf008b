"""What the scheduler leaves one device: turns, rows of texts and nodes, beside short texts and long ones."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import pytest
from grants import grants
from hypothesis import given
from hypothesis import strategies as st

from edgespec.verifying.offer import Offer
from edgespec.verifying.scheduler import Limits, Scheduler


@given(st.lists(st.integers(1, 12), min_size=2, max_size=6), st.integers(1, 8))
def test_devices_share_alike_however_many_sessions_they_open(sessions: list[int], rows: int) -> None:
    """Every device has at least 80 % of its share, as far as it has sessions enough to use it."""
    scheduler = Scheduler(Limits(rows=rows, max_wait_s=1e9))
    since = {(device, i): 0.0 for device, count in enumerate(sessions) for i in range(count)}
    served: Counter[int] = Counter()
    forwards = 30 * len(sessions)
    for now in range(1, forwards + 1):
        offered = [Offer(session, session[0], 1, since_s) for session, since_s in since.items()]
        for grant in scheduler.form(offered, float(now)):
            served[grant.session[0]] += grant.rows
            since[grant.session] = float(now)
    for device, count in enumerate(sessions):
        share = min(rows / len(sessions), count)
        assert served[device] >= 0.8 * share * forwards


def seconds_per_token(
    sessions: int, others: int, cost: Callable[[int], float], forwards: int = 60, fills: bool = False
) -> float:
    """Of the sessions of device 0, all of which always want a row, beside `others` of device 1; without them for 0.
    fills: those of device 0 do, while edges wait for the others."""
    scheduler = Scheduler(Limits(), lambda rows, attended: cost(rows))
    now_s, since_s, tokens = 0.0, dict.fromkeys(range(sessions + others), 0.0), 0
    for _ in range(forwards):
        offered = [Offer(i, int(i >= sessions), 1, since_s[i], fills=fills and i < sessions) for i in since_s]
        granted = grants(scheduler, offered, now_s)
        now_s += cost(sum(grant.rows for grant in granted.values())) / 1e3
        for session in granted:
            since_s[session] = now_s
            tokens += session < sessions
    return now_s / tokens


@pytest.mark.parametrize("fills", [False, True])
@pytest.mark.parametrize("fixed_ms", [0.0, 8.0, 28.0])
def test_1024_sessions_of_a_device_leave_another_its_share(fixed_ms: float, fills: bool) -> None:
    """Of two devices each has half of the time: at least 90 % of what the lone session had, over two. Where a further
    row costs little, the lone session is slowed by a quarter at most."""
    alone_s = seconds_per_token(1, 0, lambda rows: fixed_ms + rows)
    beside_s = seconds_per_token(1, 1024, lambda rows: fixed_ms + rows, fills=fills)
    assert beside_s <= 2 * alone_s / 0.9
    if fixed_ms >= 8.0:
        assert beside_s <= 1.26 * alone_s


@pytest.mark.parametrize("own", [1, 3])
@pytest.mark.parametrize("latency_ms", [20.0, 60.0, 1000.0])
def test_latency_targets_of_a_device_leave_another_its_share(latency_ms: float, own: int) -> None:
    """Sessions of one device all have a target, those of another none: these run in every forward, and forwards take no
    more than a quarter longer."""
    scheduler = Scheduler(Limits(), lambda rows, attended: 8.0 + 0.5 * rows)
    urgent = [Offer(i, 0, 1, 0.0, latency_ms=latency_ms) for i in range(12)]
    honest = [Offer(100 + i, 1, 1, 0.019, context=i) for i in range(own)]
    granted = grants(scheduler, [*urgent, *honest], 0.02)
    assert {offer.session for offer in honest} <= granted.keys()
    assert len(granted) > 2 * own, "what is left goes to the one that wants more"
    assert 8.0 + 0.5 * len(granted) <= 1.25 * (8.0 + 0.5 * own)


def test_the_first_session_that_fills_goes_before_the_second_one_of_another_device() -> None:
    scheduler = Scheduler(Limits(rows=4))
    waiting = [Offer(i, 0, 1, 0.0) for i in range(8)]
    filling = [Offer(100 + i, 1, 1, 1.0, fills=True) for i in range(8)]
    assert list(grants(scheduler, [*waiting, *filling], 1.0)) == [0, 100, 1, 101]


def test_overdue_sessions_wait_behind_their_devices_turn() -> None:
    scheduler = Scheduler(Limits(rows=4, max_wait_s=1.0))
    overdue = [Offer(i, 0, 1, 0.0) for i in range(100)]
    granted = grants(scheduler, [*overdue, Offer(100, 1, 1, 9.9)], 10.0)
    assert 100 in granted and len(granted) == 4


def test_the_devices_of_a_tenant_take_the_tenants_turns() -> None:
    scheduler = Scheduler(Limits(rows=4))
    crowd = [Offer(i, i, 1, 0.0, tenant="blue") for i in range(100)]
    own = [Offer(200 + i, 200, 1, 1.0, tenant="red") for i in range(2)]
    granted = grants(scheduler, [*crowd, *own], 1.0)
    assert {200, 201} <= set(granted)


def test_who_claims_to_be_sure_gets_three_quarters_of_the_nodes_at_most() -> None:
    scheduler = Scheduler(Limits(rows=42))
    offered = [Offer(1, 1, 1, 0.0, [1.0] * 64), Offer(2, 2, 1, 0.0, [0.5] * 8)]
    granted = grants(scheduler, offered)
    assert (granted[1].nodes, granted[2].nodes) == (32, 8)


@pytest.mark.parametrize(("row_ms", "nodes"), [(0.0, 16), (1.0, 6), (9.0, 0)])
def test_nodes_of_a_device_slow_one_that_has_none_by_a_quarter_at_most(row_ms: float, nodes: int) -> None:
    scheduler = Scheduler(Limits(rows=18), lambda rows, attended: 28.0 + row_ms * rows)
    drafts, has_none = Offer(1, 1, 1, 0.0, [0.99] * 16), Offer(2, 2, 1, 0.0)
    assert grants(scheduler, [drafts, has_none])[1].nodes == nodes
    assert grants(scheduler, [drafts])[1].nodes == 16, "alone it slows itself as it likes"
    both = grants(scheduler, [replace(drafts, rows=1), replace(drafts, session=2, device=2)])
    assert both[1].nodes + both[2].nodes == 16, "equal shares are nobody's excess"


def attention_ms(rows: int, attended: int) -> float:
    """Where a token attended to costs as much as a hundredth of a row."""
    return 3.5 + 0.3 * rows + 3e-3 * attended


@pytest.mark.parametrize("context", [0, 100, 300, 1500])
def test_sessions_behind_long_texts_slow_another_device_no_more_than_short_ones(context: int) -> None:
    offered = [Offer(0, 0, 1, 0.0, context=20), *(Offer(i, 1, 1, 0.0, context=context) for i in range(1, 9))]
    granted = grants(Scheduler(Limits(), attention_ms), offered)
    attended = sum(offer.context for offer in offered if offer.session in granted)
    alone_ms, equal_ms = attention_ms(1, 20), attention_ms(2, 20 + context)
    assert 0 in granted
    assert attention_ms(len(granted), attended) <= max(1.25 * alone_ms, equal_ms)
    assert len(grants(Scheduler(Limits(), attention_ms), offered[1:])) == 8, (
        "alone it slows itself as it likes"
    )


def test_a_node_behind_a_long_text_must_bring_more() -> None:
    scheduler = Scheduler(Limits(), attention_ms)
    short, long = Offer(0, 0, 1, 0.0, [0.3], context=10), Offer(1, 1, 1, 0.0, [0.3], context=1000)
    granted = grants(scheduler, [long, short])
    assert (granted[0].nodes, granted[1].nodes) == (1, 0)


def test_a_prompt_behind_a_long_text_is_taken_in_smaller_chunks() -> None:
    def chunk(context: int) -> int:
        offered = [Offer(0, 0, 1, 0.0, context=20), Offer(1, 1, 500, 0.0, context=context)]
        return grants(Scheduler(Limits(), attention_ms), offered)[1].rows

    assert (chunk(0), chunk(300)) == (2, 1)
