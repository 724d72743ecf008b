"""Nobody is slower with `auto` than with plain decoding because others' drafts are better."""

from __future__ import annotations

import pytest
from grants import grants

from edgespec.drafting.auto import Auto
from edgespec.drafting.policies import Cloud
from edgespec.sim.fleet import together
from edgespec.sim.plan import Situation
from edgespec.verifying.offer import Offer
from edgespec.verifying.scheduler import Limits, Scheduler
from edgespec.verifying.standing import Standing


def after(forwards: int, tokens: int, slowed: float) -> Standing:
    standing = Standing()
    for _ in range(forwards):
        standing.observe(tokens, slowed)
    return standing


def test_who_is_ahead_of_plain_decoding_weighs_no_less_and_who_is_behind_weighs_more() -> None:
    assert after(20, 2, 1.2).weight == after(20, 3, 1.2).weight == 1.0
    assert after(40, 1, 1.05).weight > after(20, 1, 1.05).weight > after(20, 1, 1.0).weight > 1.0


def test_what_was_long_ago_counts_for_less() -> None:
    standing = after(50, 1, 1.3)
    behind = standing.weight
    for _ in range(500):
        standing.observe(2, 1.0)
    assert standing.weight == 1.0 < behind


def test_a_forward_verifies_nodes_of_who_is_behind_before_likelier_ones() -> None:
    scheduler = Scheduler(Limits(rows=3))
    offered = [Offer(1, 1, 1, 0.0, [0.6]), Offer(2, 2, 1, 0.0, [0.4], weight=2.0)]
    assert [grant.nodes for grant in grants(scheduler, offered).values()] == [0, 1]


def test_a_row_is_cheaper_for_who_is_behind_and_dearer_for_the_others() -> None:
    scheduler = Scheduler(Limits(), lambda rows, attended: 20.0 + rows)
    alike = grants(scheduler, [Offer(i, i, 1, 0.0) for i in range(4)])[0].price
    prices = {
        i: grant.price
        for i, grant in grants(scheduler, [Offer(i, i, 1, 0.0, weight=1.0 + i) for i in range(4)]).items()
    }
    assert prices[0] == pytest.approx(4 * prices[3]) and prices[0] > alike > prices[3]


def test_a_forward_says_how_many_times_as_long_nodes_made_it_for_everybody() -> None:
    scheduler = Scheduler(Limits(), lambda rows, attended: 18.0 + rows)
    granted = grants(scheduler, [Offer(1, 1, 1, 0.0, [0.9, 0.8]), Offer(2, 2, 1, 0.0)])
    assert granted[1].nodes == 2 and granted[1].slowed == granted[2].slowed == pytest.approx(22 / 20)


def test_sessions_with_bad_drafts_beside_good_ones_are_no_slower_than_in_cloud() -> None:
    """Rows are dear, and every other draft is right in 20 of 100 cases only, the others in 80."""
    situation = Situation(rtt_ms=20.0, forward_row_share=0.06)
    cloud_ms, auto_ms = (together(situation, mode, 16, 100, acceptances=(0.2, 0.8)) for mode in (Cloud, Auto))
    assert sum(auto_ms[::2]) <= 1.002 * sum(cloud_ms[::2])
    assert sum(auto_ms[1::2]) <= 0.9 * sum(cloud_ms[1::2])
