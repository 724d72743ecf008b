"""The demo's figures: what one run counted, and what a mode's runs come to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from edgespec.core.pacing import VOID_SHARE
from edgespec.drafting.modes import DEVICE
from edgespec.edge.statistics import Statistics
from edgespec.edge.trace import Event


@dataclass(frozen=True)
class Run:
    """One prompt in one mode. arrivals: when tokens came (seconds, any clock) and how many."""

    mode: str
    prompt: int
    tokens: tuple[int, ...]
    text: str
    statistics: Statistics
    steps: int
    overruns: int
    trace: list[Event]
    arrivals: list[tuple[float, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Pacing:
    """The paces of the demo's engines, in milliseconds; None: unpaced. `rows`: what one paced forward holds."""

    draft_ms: float | None
    verify_ms: float | None
    rows: int = 32

    def overruns(self, statistics: Statistics, trace: Sequence[Event]) -> tuple[int, int]:
        """Paced steps and those that took longer than their pace; the forwards that read the prompt are left out."""
        steps = statistics.draft_runs if self.draft_ms else 0
        overruns = statistics.draft_overruns if self.draft_ms else 0
        if self.verify_ms:
            for event in [event for event in trace if event.kind == "forward"][1:]:
                rows = int(str(event.detail["rows"])) + 1
                pace_s = self.verify_ms / 1e3 * max(1.0, rows / self.rows)
                steps += 1
                overruns += event.end_s - event.start_s > pace_s * 1.03
        return steps, overruns


def mode_figures(runs: Sequence[Run], cloud: Sequence[Run]) -> dict[str, Any]:
    """What a mode's runs come to; speed_vs_cloud: the same prompts' tokens a second, in all, against `cloud`."""
    tokens = sum(run.statistics.committed for run in runs)
    seconds = sum(run.statistics.seconds for run in runs)
    forwards = sum(run.statistics.target_forwards for run in runs)
    rounds = sum(run.statistics.rounds for run in runs)
    sent = sum(run.statistics.sent for run in runs)
    accepted = sum(run.statistics.accepted for run in runs)
    hints = sum(run.statistics.hints_sent for run in runs)
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
        "hints_sent": hints,
        "hints_hit": sum(run.statistics.hints_hit for run in runs),
        "forwards_per_token": forwards / tokens,
        "bytes_per_token": sum(run.statistics.bytes_up + run.statistics.bytes_down for run in runs) / tokens,
        "paced_steps": steps,
        "overruns": overruns,
        "void": overruns > VOID_SHARE * steps,
    }


def identical(runs: Sequence[Run]) -> bool:
    """Every mode gave the same tokens for the same prompt; `device`, whose text is the draft's own, is left out."""
    texts: dict[int, tuple[int, ...]] = {}
    return all(texts.setdefault(run.prompt, run.tokens) == run.tokens for run in runs if run.mode != DEVICE)


def _speed(runs: Sequence[Run]) -> float:
    return sum(run.statistics.committed for run in runs) / sum(run.statistics.seconds for run in runs)
