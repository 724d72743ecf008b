"""The scheduler alone, on a simulated clock: budgets, urgency, prices, nobody starves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from grants import grants
from hypothesis import given, settings
from hypothesis import strategies as st

from edgespec.verifying.offer import Offer
from edgespec.verifying.scheduler import NEIGHBOURS, Limits, Scheduler

LIMITS = Limits(rows=16, prefill_rows=64, prefill_share=0.5, max_wait_s=1.0)

probabilities = st.lists(st.floats(0.01, 0.99), max_size=12).map(lambda values: sorted(values, reverse=True))
offers = st.lists(
    st.builds(
        Offer,
        session=st.integers(),
        device=st.integers(0, 5),
        rows=st.one_of(st.just(1), st.integers(2, 500)),
        since_s=st.floats(0, 10),
        probabilities=probabilities,
        latency_ms=st.one_of(st.none(), st.floats(1, 5000)),
        low_priority=st.booleans(),
        away=st.booleans(),
    ),
    max_size=60,
    unique_by=lambda offer: offer.session,
)


@given(offers)
def test_a_forward_keeps_its_budget_and_grants_only_what_was_offered(offered: list[Offer]) -> None:
    granted = grants(Scheduler(LIMITS), offered, 10.0)
    by_session = {offer.session: offer for offer in offered}
    for session, grant in granted.items():
        offer = by_session[session]
        assert 1 <= grant.rows <= offer.rows
        assert 0 <= grant.nodes <= len(offer.probabilities)
        assert grant.nodes == 0 or grant.rows == offer.rows, "a prompt cut short decides nothing"
    rows = sum(grant.rows + grant.nodes for grant in granted.values())
    present = [offer for offer in offered if not offer.away] or offered
    waiting = any(offer.rows == 1 for offer in present)
    assert rows <= (LIMITS.rows if waiting else LIMITS.prefill_rows)
    assert bool(granted) == bool(offered)


@given(offers, st.integers(1, 40))
def test_nobody_starves(offered: list[Offer], newcomers: int) -> None:
    """However many come anew at every forward, whoever waited runs within a bounded number of forwards."""
    scheduler = Scheduler(LIMITS)
    waiting = {offer.session: replace(offer, since_s=0.0, away=False) for offer in offered}
    now_s, forward_s, forwards = 0.0, 0.1, 0
    max_wait = round(LIMITS.max_wait_s / forward_s)
    while waiting and forwards <= max_wait + 1 + len(offered):
        crowd = [
            Offer((forwards, i), device=("new", i), rows=1, since_s=now_s, latency_ms=1e5)
            for i in range(newcomers)
        ]
        for grant in scheduler.form([*crowd, *waiting.values()], now_s):  # type: ignore[list-item]
            waiting.pop(grant.session, None)
        now_s += forward_s
        forwards += 1
    assert not waiting


def test_the_earliest_deadline_goes_first() -> None:
    scheduler = Scheduler(Limits(rows=1))
    offered = [Offer(1, 1, 1, 0.0), Offer(2, 2, 1, 0.3, latency_ms=200), Offer(3, 3, 1, 0.0, latency_ms=400)]
    assert list(grants(scheduler, offered, 0.4)) == [3]
    assert list(grants(scheduler, offered[:2], 0.4)) == [2]


def test_a_prompt_leaves_room_for_those_who_wait_for_a_verdict() -> None:
    scheduler = Scheduler(LIMITS)
    verdicts = [Offer(i, i, 1, 0.0) for i in range(4)]
    granted = grants(scheduler, [Offer(99, 99, 1000, -1.0), *verdicts])
    assert granted[99].rows == 8
    assert all(granted[i].rows == 1 for i in range(4))
    assert grants(scheduler, [Offer(99, 99, 1000, 0.0)])[99].rows == LIMITS.prefill_rows


def test_likely_nodes_go_before_unlikely_ones_of_whichever_session() -> None:
    scheduler = Scheduler(Limits(rows=6))
    offered = [Offer(1, 1, 1, 0.0, [0.9, 0.8, 0.7]), Offer(2, 2, 1, 0.0, [0.5, 0.1])]
    granted = grants(scheduler, offered)
    assert (granted[1].nodes, granted[2].nodes) == (3, 1)


def test_nodes_that_cost_more_than_they_bring_stay_behind() -> None:
    scheduler = Scheduler(Limits(rows=64), lambda rows, attended: 28.0 * max(1.0, rows / 32))
    few = grants(scheduler, [Offer(i, i, 1, 0.0, [0.6, 0.36]) for i in range(8)])
    assert all(grant.nodes == 2 for grant in few.values())
    many = grants(scheduler, [Offer(i, i, 1, 0.0, [0.6, 0.36]) for i in range(32)])
    assert all(grant.nodes == 0 for grant in many.values())


def test_a_forward_has_room_while_a_likely_node_would_be_worth_its_row() -> None:
    scheduler = Scheduler(Limits(rows=64), lambda rows, attended: 28.0 * max(1.0, rows / 32))
    for sessions, roomy in ((8, True), (31, True), (32, False), (8, True), (64, False)):
        scheduler.form([Offer(i, i, 1, 0.0) for i in range(sessions)], 0.0)
        assert scheduler.roomy is roomy


def test_the_price_of_a_row_is_what_one_more_node_would_have_needed() -> None:
    scheduler = Scheduler(LIMITS, cost=lambda rows, attended: 20.0 + rows)
    prices = []
    for sessions in (1, 4, 8):
        granted = grants(scheduler, [Offer(number, number, 1, 0.0) for number in range(sessions)])
        prices.append(granted[0].price)
    shares = [1 / 22, NEIGHBOURS * 4 / 25, NEIGHBOURS * 8 / 29]
    assert prices == pytest.approx(shares), "with company a node must bring more than its share"
    full = grants(scheduler, [Offer(0, 0, 1, 0.0, [0.9] * 15 + [0.8] * 5)])
    assert full[0].price == 0.8, "the forward is full, and such a node was left over"
    free = Scheduler(LIMITS, cost=lambda rows, attended: 20.0)
    assert grants(free, [Offer(0, 0, 1, 0.0)])[0].price == 0.0


def test_a_prompt_takes_no_more_than_keeps_the_targets_of_those_who_wait() -> None:
    scheduler = Scheduler(Limits(rows=64), lambda rows, attended: float(rows))
    waiting = [Offer(i, i, 1, 0.0, [0.99, 0.98], latency_ms=25.0) for i in range(10)]
    granted = grants(scheduler, [*waiting, Offer(99, 99, 500, 0.0)])
    assert sum(grant.rows + grant.nodes for grant in granted.values()) == 20
    assert granted[99].rows == 2, "12 rows take 1.2 times as long as those of the others"
    crowded = [Offer(i, i, 1, 0.0, latency_ms=25.0) for i in range(30)]
    assert grants(scheduler, [*crowded, Offer(99, 99, 500, 0.0)])[99].rows == 1
    free = [replace(offer, latency_ms=None) for offer in waiting]
    assert grants(scheduler, [*free, Offer(99, 99, 500, 0.0)])[99].rows == 2, "with a target or without one"
    alone = [replace(offer, device=99) for offer in free]
    assert grants(scheduler, [*alone, Offer(99, 99, 500, 0.0)])[99].rows == 32, (
        "a device slows itself as it likes"
    )


def test_fill_runs_only_in_the_room_that_others_leave_until_it_has_waited_too_long() -> None:
    scheduler = Scheduler(Limits(rows=4, max_wait_s=1.0))
    asked = [Offer(i, i, 1, 0.5) for i in range(4)]
    fill = Offer(99, 99, 1, 0.0, low_priority=True)
    assert 99 not in grants(scheduler, [fill, *asked], 0.5)
    assert 99 in grants(scheduler, [fill, *asked[:3]], 0.5)
    assert 99 in grants(scheduler, [fill, *asked], 1.0)


def test_fill_leaves_no_room_to_unlikely_nodes() -> None:
    scheduler = Scheduler(Limits(rows=3))
    granted = grants(scheduler, [Offer(1, 1, 1, 0.0, [0.5, 0.2]), Offer(2, 2, 1, 0.0, low_priority=True)])
    assert granted[2].rows == 1
    assert granted[1].nodes == 1


@pytest.mark.parametrize(("row_ms", "runs"), [(0.0, {1, 2, 4}), (1.0, {1})])
def test_sessions_of_edges_that_are_away_run_beside_others_only_where_a_row_costs_nothing(
    row_ms: float, runs: set[int]
) -> None:
    scheduler = Scheduler(LIMITS, lambda rows, attended: 10.0 + row_ms * rows)
    away = [
        Offer(2, 2, 1, 0.0, [0.9], away=True),
        Offer(3, 2, 40, 0.0, away=True),
        Offer(4, 3, 1, 1.0, away=True),
    ]
    beside = grants(scheduler, [Offer(1, 1, 1, 9.0), *away], 10.0)
    assert beside.keys() == runs
    assert all((grant.rows, grant.nodes) == (1, 0) for grant in beside.values())
    alone = grants(scheduler, away, 10.0)
    assert alone.keys() == {2, 3, 4} and alone[2].nodes == 1


@pytest.mark.parametrize("rows", [2, 63, 64])
def test_a_prompt_that_fits_is_decided_with_its_drafts(rows: int) -> None:
    granted = grants(Scheduler(Limits(rows=64)), [Offer(1, 1, rows, 0.0, [0.9])])
    assert granted[1].rows == rows
    assert granted[1].nodes == (1 if rows < 64 else 0)


def gaps_in_turns(sessions: dict[int, Offer], seconds: float) -> dict[int, list[float]]:
    """What each session waits for its verdicts, one after the other without a break; a forward takes 8 ms and 0.5 a
    row."""

    def cost_ms(rows: int) -> float:
        return 8.0 + 0.5 * rows

    scheduler = Scheduler(Limits(rows=64), lambda rows, attended: cost_ms(rows))
    now_s, gaps = 0.0, {number: [] for number in sessions}  # type: dict[int, list[float]]
    while now_s < seconds:
        granted = scheduler.form(list(sessions.values()), now_s)
        now_s += cost_ms(sum(grant.rows for grant in granted)) / 1e3
        for grant in granted:
            gaps[grant.session].append(now_s - sessions[grant.session].since_s)
            sessions[grant.session] = replace(sessions[grant.session], since_s=now_s)
    return gaps


@given(
    st.integers(1, 8),
    st.integers(0, 150),
    st.sampled_from([20.0, 25.0, 30.0]),
    st.sampled_from([None, 500.0]),
)
@settings(max_examples=30, deadline=None)
def test_tight_sessions_keep_their_target_while_loose_ones_wait_and_do_not_starve(
    tight: int, loose: int, latency_ms: float, loosely_ms: float | None
) -> None:
    offered = {i: Offer(i, i, 1, 0.0, latency_ms=latency_ms) for i in range(tight)}
    offered |= {i: Offer(i, i, 1, 0.0, latency_ms=loosely_ms) for i in range(tight, tight + loose)}
    gaps = gaps_in_turns(offered, 4.0)
    for number in range(tight):
        assert max(gaps[number]) <= latency_ms / 1e3
    for number in range(tight, tight + loose):
        assert max(gaps[number]) <= (loosely_ms or 1e3) / 1e3 + latency_ms / 1e3
        assert len(gaps[number]) >= 4


def test_targets_of_one_device_that_cannot_be_kept_starve_no_other() -> None:
    """Forwards have become slower since targets of 4, 8 and 20 ms were promised to one device. Another one's prompt of
    8 tokens is read row by row in between, and then each forward has its token."""
    scheduler = Scheduler(Limits(), lambda rows, attended: 6.0 + 0.3 * rows)
    since_s, now_s, prompt = dict.fromkeys(range(7), 0.0), 0.0, 8
    tokens = 0
    for _ in range(40):
        promised = [
            Offer(number, "one", 1, at_s, latency_ms=(4.0, 4.0, 8.0, 20.0, 8.0, 20.0, 20.0)[number])
            for number, at_s in since_s.items()
        ]
        granted = grants(scheduler, [*promised, Offer(99, "other", prompt, 0.0)], now_s)
        now_s += 1e-3 * (6.0 + 0.3 * len(granted))
        since_s.update((number, now_s) for number in granted if number != 99)
        tokens += prompt == 1 and 99 in granted
        prompt = max(1, prompt - granted[99].rows)
    assert tokens >= 40 - 8
