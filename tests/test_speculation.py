"""Speculation on a simulated clock: whatever is drafted, hinted or delayed, the text is the target's own."""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scripted_models import HashModel, hashed

from edgespec.core.measurements import Measurements
from edgespec.core.server_options import ServerOptions
from edgespec.core.tree import ROOT
from edgespec.drafting.modes import POLICIES, policy
from edgespec.drafting.policy import Policy
from edgespec.drafting.speculator import Speculator
from edgespec.sim.scripted_model import CalibratedModel
from edgespec.sim.simulation import Timing, simulate

PAPER = Timing(draft_ms=lambda rows: 75.25, forward_ms=lambda rows: 522, up_ms=lambda: 48, down_ms=lambda: 48)
PROMPT = [1, 2, 3]


@pytest.mark.parametrize("mode", POLICIES)
@pytest.mark.parametrize("draft_right", [0.0, 0.6, 1.0])
def test_every_mode_gives_the_targets_text(mode: str, draft_right: float) -> None:
    scripted = HashModel(draft_right=draft_right)
    outcome = simulate(scripted, policy(mode, 4), PROMPT, max_new_tokens=60)
    assert outcome.text == scripted.continuation(PROMPT, 60)
    assert outcome.finish == "length"


@example(  # forwards that take no time
    mode="auto",
    draft_tokens=1,
    seed=0,
    right=(0.0, 0.0),
    prompt=[0],
    max_new_tokens=9,
    delays=[0.0, 0.0, 0.0, 0.0],
    end_token=None,
    capacity=None,
    span=None,
)
@settings(deadline=None, max_examples=150)
@given(
    mode=st.sampled_from(sorted(POLICIES)),
    draft_tokens=st.integers(1, 8),
    seed=st.integers(0, 1000),
    right=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    prompt=st.lists(st.integers(0, 49), min_size=1, max_size=5),
    max_new_tokens=st.integers(1, 40),
    delays=st.lists(st.floats(0, 300, allow_subnormal=False), min_size=4, max_size=4),
    end_token=st.one_of(st.none(), st.integers(0, 49)),
    capacity=st.one_of(st.none(), st.integers(1, 50)),
    span=st.sampled_from([None, 1, 2]),
)
def test_any_interleaving_gives_the_targets_text(
    mode: str,
    draft_tokens: int,
    seed: int,
    right: tuple[float, float],
    prompt: list[int],
    max_new_tokens: int,
    delays: list[float],
    end_token: int | None,
    capacity: int | None,
    span: int | None,
) -> None:
    scripted = HashModel(seed, *right, confidence=lambda text: hashed(text, 77) % 256 / 255, span=span)
    ways = itertools.cycle(delays)
    timing = Timing(
        draft_ms=lambda rows: next(ways) / 10,
        forward_ms=lambda rows: next(ways),
        up_ms=lambda: next(ways),
        down_ms=lambda: next(ways),
        exits=((2, 0.1), (5, 0.4), (9, 0.9)),
    )
    ends = [] if end_token is None else [end_token]
    outcome = simulate(
        scripted,
        policy(mode, draft_tokens),
        prompt,
        max_new_tokens=max_new_tokens,
        timing=timing,
        end_tokens=ends,
        draft_capacity=capacity,
    )
    assert outcome.text == scripted.continuation(prompt, max_new_tokens, ends)
    assert outcome.finish == ("stop" if outcome.text[-1] in ends else "length")


class Whimsical(Policy):
    """Drafts anywhere, sends anything, at any time: wide trees, late blocks, blocks that continue committed nodes."""

    name = "whimsical"
    drafts = True

    def __init__(self, seed: int, fill: bool) -> None:
        self.options = ServerOptions(fill=fill, prompt_lookup=seed % 2 == 0, hint_threshold=0.0)
        self.random = random.Random(seed)

    def expand(self, view: Speculator) -> Sequence[int]:
        able = [node for node in (ROOT, *view.tree) if len(view.tree) < 40 and view.can_expand(node)]
        return self.random.sample(able, min(len(able), self.random.randint(0, 3)))

    def width(self, view: Speculator, node: int, probabilities: Sequence[float]) -> int:
        return self.random.randint(1, 2)

    def adapt(self, view: Speculator, measurements: Measurements) -> None:
        self.options = replace(
            self.options,
            hint_threshold=self.random.choice([None, 0.0]),
            prompt_lookup=self.random.random() < 0.5,
            server_draft="lent" if self.random.random() < 0.3 else "off",
            max_wait_ms=self.random.choice([0.0, 5.0, 50.0]),
        )

    def send(self, view: Speculator) -> Sequence[int]:
        nodes = list(view.tree)
        chosen = self.random.sample(nodes, min(len(nodes), self.random.randint(0, 4)))
        return list(dict.fromkeys(node for end in chosen for node in view.tree.path(end)))

    def hold_ms(self, view: Speculator, nodes: Sequence[int]) -> float:
        return self.random.choice([0.0, 0.0, 3.0, 40.0, math.inf if view.in_flight else 0.0])


@settings(deadline=None, max_examples=100)
@given(
    seed=st.integers(0, 10_000),
    right=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    delays=st.lists(st.floats(0, 100), min_size=3, max_size=7),
    span=st.sampled_from([None, 1, 2]),
)
def test_a_policy_without_any_sense_gives_the_targets_text(
    seed: int, right: tuple[float, float], delays: list[float], span: int | None
) -> None:
    scripted = HashModel(seed, *right, confidence=lambda text: hashed(text, 5) % 256 / 255, span=span)
    ways = itertools.cycle(delays)
    timing = Timing(
        draft_ms=lambda rows: next(ways) / 7 + 0.1,
        forward_ms=lambda rows: next(ways) + 0.1,
        up_ms=lambda: next(ways),
        down_ms=lambda: next(ways),
        server_draft_ms=None if seed % 3 == 0 else lambda rows: next(ways) / 50,
    )
    outcome = simulate(scripted, Whimsical(seed, fill=True), PROMPT, max_new_tokens=40, timing=timing)
    assert outcome.text == scripted.continuation(PROMPT, 40)


def test_with_the_papers_timings_sync_beats_cloud_and_preempt_beats_sync() -> None:
    scripted = HashModel(draft_right=0.65, exit_right=0.85)
    times_ms = {
        mode: simulate(scripted, policy(mode, 4), PROMPT, max_new_tokens=300, timing=PAPER).milliseconds
        for mode in ("cloud", "sync", "preempt")
    }
    assert times_ms["preempt"] < times_ms["sync"] < times_ms["cloud"]


def test_cloud_drafts_and_sends_nothing() -> None:
    outcome = simulate(HashModel(), policy("cloud", 4), PROMPT, max_new_tokens=30)
    assert outcome.counts.drafted == outcome.counts.sent == 0
    assert outcome.forwards == 30


def test_sync_never_sends_while_it_waits() -> None:
    outcome = simulate(HashModel(), policy("sync", 4), PROMPT, max_new_tokens=60)
    kinds = [kind.split()[0] for _, kind in outcome.history]
    first = kinds.index("block")
    assert all(a != b for a, b in itertools.pairwise(kinds[first + 2 :]))


def test_hints_that_are_always_right_are_all_hits() -> None:
    outcome = simulate(HashModel(exit_right=1.0), policy("preempt", 4), PROMPT, max_new_tokens=60)
    assert outcome.counts.hints_hit == outcome.counts.hints_sent > 0


def test_hints_that_are_always_wrong_cost_no_token() -> None:
    scripted = HashModel(exit_right=0.0, confidence=lambda text: 1.0)
    outcome = simulate(scripted, policy("preempt", 4), PROMPT, max_new_tokens=60)
    assert outcome.text == scripted.continuation(PROMPT, 60)
    assert outcome.counts.hints_hit == 0 < outcome.counts.hints_sent


def test_a_draft_whose_cache_is_full_falls_back_to_plain_forwards() -> None:
    scripted = HashModel(draft_right=1.0)
    outcome = simulate(scripted, policy("sync", 4), PROMPT, max_new_tokens=60, draft_capacity=20)
    assert outcome.text == scripted.continuation(PROMPT, 60)
    assert outcome.forwards > 60 - 20


def test_the_text_ends_at_the_context_limit() -> None:
    scripted = HashModel(draft_right=1.0)
    outcome = simulate(scripted, policy("sync", 8), PROMPT, max_new_tokens=60, context_length=20)
    assert outcome.text == scripted.continuation(PROMPT, 17)


def test_auto_sends_fewer_blocks_than_stream_in_the_same_time() -> None:
    timing = Timing(up_ms=lambda: 20.0, down_ms=lambda: 20.0, exits=())
    scripted = CalibratedModel(0.69, {})
    blocks, times_ms = {}, {}
    for mode in ("stream", "auto"):
        outcome = simulate(scripted, policy(mode), PROMPT, max_new_tokens=300, timing=timing)
        blocks[mode] = sum(event.startswith("block") for _, event in outcome.history)
        times_ms[mode] = outcome.milliseconds
    assert blocks["auto"] < 0.6 * blocks["stream"]
    assert times_ms["auto"] < 1.05 * times_ms["stream"]
