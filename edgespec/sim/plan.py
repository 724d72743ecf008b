"""`edgespec plan`: what every mode would give on a link, for given engines and acceptance. Pure.

The product's own loops and policies run on a simulated clock; only the models are scripted. Each mode that waits gets
its best length of a block, so that none loses by a bad setting.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgespec.core.errors import EdgespecError
from edgespec.drafting.modes import WAITING_MODES, policy
from edgespec.sim.emulated_link import LinkShape
from edgespec.sim.scripted_model import CalibratedModel, TraceModel
from edgespec.sim.simulation import Outcome, Timing, simulate
from edgespec.sim.trace import Trace

PROMPT = [1, 2, 3, 4]
BLOCKS = (1, 2, 3, 4, 6, 8)
"""Lengths of a block that the waiting modes choose from."""
FRAME_BYTES = {"block": 24, "verdict": 44, "hint": 40}
ENTRY_BYTES = {"block": 9, "verdict": 4, "hint": 0}
"""Of each node of a block, and of each token of a verdict."""

NAMED: dict[str, dict[str, float]] = {
    "paper-jetson": {"draft_ms": 301 / 4, "forward_ms": 522.0, "rtt_ms": 96.0},
    "paper-rtx": {"draft_ms": 99 / 4, "forward_ms": 467.0, "rtt_ms": 47.0},
    "go2": {"draft_ms": 288 / 4, "forward_ms": 620.0, "rtt_ms": 120.0},
    "a100-orin": {"draft_ms": 6.0, "forward_ms": 28.0},
}
"""Links and engines that others have published. The paper (arXiv 2505.21594) gives its draft's time for a block of four
tokens: a quarter of it is one level's."""


@dataclass(frozen=True)
class Situation:
    """A link, two engines and a pair. Times in milliseconds.

    forward_row_share, draft_row_share: what a further row costs, as a share of the first. exit_cost: what exits add to
    a forward, as a share of it. free_rows: rows that a forward takes in the time of one; more cost in proportion.
    jitter_ms: the round trip varies by up to this much. mbps: of each way; None: no limit. What lies around engines and
    link (measured by `benchmarks.plan_validation`): forward_overhead_ms, draft_overhead_ms: a forward, and a run of the
    draft; wake_up_ms: of a round trip, until both sides have noticed what came.
    """

    rtt_ms: float = 40.0
    forward_ms: float = 28.0
    draft_ms: float = 6.0
    acceptance: float = 0.62
    jitter_ms: float = 0.0
    mbps: float | None = None
    forward_row_share: float = 0.0
    draft_row_share: float = 0.1
    exit_cost: float = 0.0
    free_rows: float = 64
    forward_overhead_ms: float = 0.0
    draft_overhead_ms: float = 0.0
    wake_up_ms: float = 0.0

    def __post_init__(self) -> None:
        LinkShape(self.rtt_ms, self.jitter_ms, self.mbps)  # checks them
        for name in ("forward_ms", "draft_ms"):
            if not getattr(self, name) > 0:
                raise EdgespecError(f"{name} must be above 0, not {getattr(self, name):g}.")
        for name in ("forward_row_share", "draft_row_share", "exit_cost"):
            if getattr(self, name) < 0:
                raise EdgespecError(f"{name} must be 0 or more, not {getattr(self, name):g}.")
        if not 0 <= self.acceptance <= 1:
            raise EdgespecError(f"acceptance must lie between 0 and 1, not {self.acceptance:g}.")

    def timing(self, seed: int) -> Timing:
        rng = random.Random(seed)
        frame_ms = 0.0 if self.mbps is None else 64 * 8 / (self.mbps * 1e3)

        def way_ms() -> float:
            late_ms = rng.uniform(-self.jitter_ms, self.jitter_ms) / 2
            return (self.rtt_ms + self.wake_up_ms) / 2 + late_ms + frame_ms

        def draft_ms(rows: int) -> float:
            return self.draft_ms * (1 + self.draft_row_share * (rows - 1)) + self.draft_overhead_ms

        def forward_ms(rows: int) -> float:
            share = (1 + self.forward_row_share * (rows - 1)) * max(1.0, rows / self.free_rows)
            return self.forward_ms * share + self.forward_overhead_ms

        return Timing(draft_ms, forward_ms, up_ms=way_ms, down_ms=way_ms, exit_cost=self.exit_cost)


@dataclass(frozen=True)
class Prediction:
    """What a mode would give: tokens a second, target forwards and application bytes a token, its best block."""

    mode: str
    tokens_per_s: float
    forwards_per_token: float
    bytes_per_token: float
    draft_tokens: int | None


def predict(
    situation: Situation,
    mode: str,
    *,
    block: int | None = None,
    tokens: int = 400,
    seeds: Sequence[int] = (0, 1, 2),
    trace: Trace | None = None,
) -> Prediction:
    """Play a mode in a situation. block: the length of a block; None: the best one, where the mode has one.

    trace: play its texts instead of `tokens` invented ones for each seed; the situation's acceptance is then unused.
    """
    searched = block is None and mode in WAITING_MODES
    blocks: Sequence[int | None] = BLOCKS if searched else (block,)
    predictions = (
        _prediction(mode, block, list(_outcomes(situation, mode, block, tokens, seeds, trace)))
        for block in blocks
    )
    return max(predictions, key=lambda one: one.tokens_per_s)


def compare(
    situation: Situation, modes: Sequence[str], *, tokens: int = 400, trace: Trace | None = None
) -> list[Prediction]:
    """Every mode in one situation."""
    return [predict(situation, mode, tokens=tokens, trace=trace) for mode in modes]


def _prediction(mode: str, block: int | None, outcomes: Sequence[Outcome]) -> Prediction:
    committed = sum(len(outcome.text) for outcome in outcomes)
    return Prediction(
        mode,
        tokens_per_s=committed / sum(outcome.milliseconds for outcome in outcomes) * 1e3,
        forwards_per_token=sum(outcome.forwards for outcome in outcomes) / committed,
        bytes_per_token=sum(_frame_bytes(outcome) for outcome in outcomes) / committed,
        draft_tokens=block,
    )


def _outcomes(
    situation: Situation,
    mode: str,
    block: int | None,
    tokens: int,
    seeds: Sequence[int],
    trace: Trace | None,
) -> Iterator[Outcome]:
    if trace is None:
        for seed in seeds:
            scripted = CalibratedModel(situation.acceptance, seed=seed)
            timing = situation.timing(seed)
            yield simulate(scripted, policy(mode, block), PROMPT, max_new_tokens=tokens, timing=timing)
        return
    for seed, text in enumerate(trace.texts):
        timing = replace(situation.timing(seed), exits=trace.exits)
        model, length = TraceModel(trace, text), len(text.tokens)
        yield simulate(model, policy(mode, block), text.prompt, max_new_tokens=length, timing=timing)


def _frame_bytes(outcome: Outcome) -> int:
    """Application bytes, headers in, of the frames that went up and down."""
    size = 0
    for _, event in outcome.history:
        kind, _, count = event.partition(" of ")
        size += FRAME_BYTES[kind] + ENTRY_BYTES[kind] * int(count or 0)
    return size
