"""The demo's figures: the counts of one run, and their summary for a mode."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from edgespec.core.pacing import VOID_SHARE
from edgespec.drafting.modes import DEVICE
from edgespec.edge.step import Statistics
from edgespec.edge.trace import Event

OVERRUN = 1.03
"""A paced forward that took longer than its pace by this factor did not keep it."""


@dataclass(frozen=True)
class Run:
    """One prompt in one mode. arrivals: when tokens came (seconds) and how many."""

    mode: str
    prompt: int
    tokens: tuple[int, ...]
    statistics: Statistics
    steps: int
    overruns: int
    trace: list[Event]
    arrivals: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Pacing:
    """Minimum times of a draft run and a target forward; None: unpaced. rows: what one paced forward computes."""

    draft_ms: float | None
    verify_ms: float | None
    rows: int = 32

    def overruns(self, statistics: Statistics, trace: Sequence[Event]) -> tuple[int, int]:
        """The number of paced steps, and of those that took longer. The forward that reads the prompt is left out."""
        steps = statistics.draft_runs if self.draft_ms else 0
        overruns = statistics.draft_overruns if self.draft_ms else 0
        if self.verify_ms:
            for event in [event for event in trace if event.kind == "forward"][1:]:
                rows = int(str(event.detail["rows"])) + 1
                pace_s = self.verify_ms / 1e3 * max(1.0, rows / self.rows)
                steps += 1
                overruns += event.end_s - event.start_s > pace_s * OVERRUN
        return steps, overruns


def mode_figures(runs: Sequence[Run], cloud: Sequence[Run]) -> dict[str, Any]:
    """A mode's figures over its runs. cloud: the runs of `cloud` on the same prompts, for speed_vs_cloud."""

    def total(value: Callable[[Statistics], float]) -> Any:
        return sum(value(run.statistics) for run in runs)

    tokens, seconds = total(lambda one: one.committed), total(lambda one: one.seconds)
    rounds, sent = total(lambda one: one.rounds), total(lambda one: one.sent)
    accepted = total(lambda one: one.accepted)
    steps, overruns = sum(run.steps for run in runs), sum(run.overruns for run in runs)
    return {
        "tokens": tokens,
        "seconds": seconds,
        "tokens_per_s": tokens / seconds,
        "tokens_per_s_median": median(run.statistics.committed / run.statistics.seconds for run in runs),
        "ttft_ms_median": median(run.statistics.ttft_ms or 0.0 for run in runs),
        "speed_vs_cloud": _speed(runs) / _speed(cloud) if cloud else None,
        "tokens_per_round": (accepted + rounds) / rounds if rounds else 1.0,
        "acceptance": accepted / sent if sent else None,
        "hints_sent": total(lambda one: one.hints_sent),
        "hints_hit": total(lambda one: one.hints_hit),
        "forwards_per_token": total(lambda one: one.target_forwards) / tokens,
        "bytes_per_token": total(lambda one: one.bytes_up + one.bytes_down) / tokens,
        "paced_steps": steps,
        "overruns": overruns,
        "void": overruns > VOID_SHARE * steps,
    }


def speed(one: Mapping[str, Any]) -> str:
    """A mode's speed beside cloud, and whether paced engines overran too often for it to count."""
    return f"{one['speed_vs_cloud']:.2f}×" + (" (void)" if one["void"] else "")


def identical(runs: Sequence[Run]) -> bool:
    """Whether all modes generated the same tokens from the same prompt. `device` generates the draft's own text."""
    texts: dict[int, tuple[int, ...]] = {}
    return all(texts.setdefault(run.prompt, run.tokens) == run.tokens for run in runs if run.mode != DEVICE)


def _speed(runs: Sequence[Run]) -> float:
    return sum(run.statistics.committed for run in runs) / sum(run.statistics.seconds for run in runs)
