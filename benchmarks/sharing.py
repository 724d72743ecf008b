"""Devices that draft against a server that drafts for them: how many more sessions does the same server carry?

A saturated server that does not draft should carry 1 + gamma * t_draft / t_verify times as many sessions at the same
rate each. Both times are what the server itself counted in the `colocated` run. The devices replay what the same draft
said for the same texts, so that both send the same blocks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.fleet import Fleet, Job, Outcome, differing, serving
from benchmarks.prompts import held_out_prompts
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft

TEXTS = 8
DRAFT_TOKENS = 4
SHARE = 0.9
"""Of the formula's value, that is to be reached."""


STEPS = (0.8, 1.2, 0.9, 1.1, 1.0)
"""Shares of the formula's sessions that are tried, each between two runs of the server that drafts."""


@dataclass(frozen=True)
class Load:
    """A server's costs: forward_ms of 32 rows and draft_ms a run on the server, None: at full speed. sessions: so many
    that draft on the server saturate it."""

    name: str
    sessions: int
    forward_ms: float | None = None
    draft_ms: float | None = None

    @property
    def options(self) -> list[str]:
        if self.forward_ms is None:
            return []
        return ["--verify-pace-ms", str(self.forward_ms), "--colocated-draft-pace-ms", str(self.draft_ms)]


LOADS = (
    Load("colocated, unpaced", 16),
    Load("colocated, paced: 28 ms for 32 rows, 1.5 ms a draft", 6, 28.0, 1.5),
)


def capacity_against_colocated(options: Sequence[str], seconds: float) -> list[dict[str, Any]]:
    """A cell for each load; `options` of the server; seconds: of each of the runs."""
    jobs = _recorded(options)
    return [_cell(load, options, jobs, seconds) for load in LOADS]


def _cell(load: Load, options: Sequence[str], jobs: Sequence[Job], seconds: float) -> dict[str, Any]:
    with serving(*options, *load.options) as fleet:
        rate, ratio, wrong = _hosted(fleet, load, jobs, seconds)
        rates, ratios, relative = [rate], [ratio], {}
        for times in STEPS:
            count = round(load.sessions * float(np.mean(ratios)) * times)
            drafting = _crowd(jobs, count, "sync", seconds)
            outcomes = fleet.play(drafting)
            rate, ratio, differ = _hosted(fleet, load, jobs, seconds)
            rates.append(rate)
            ratios.append(ratio)
            wrong += differ + differing(drafting, outcomes)
            relative[count] = session_rate(outcomes, seconds) / np.mean(rates[-2:])
    formula, capacity = float(np.mean(ratios)), at_equal_rate(relative) / load.sessions
    return {
        "part": load.name,
        "mode": "sync",
        "sessions": load.sessions,
        "tokens_per_s_each": float(np.mean(rates)),
        "formula": formula,
        "times": capacity,
        "target": f">= {SHARE * formula:.2f}",
        "met": capacity >= SHARE * formula,
        "differing_texts": wrong,
    }


def _hosted(fleet: Fleet, load: Load, jobs: Sequence[Job], seconds: float) -> tuple[float, float, int]:
    """The server drafts for all: tokens a second of each, 1 + time drafting / time verifying, texts that differ."""
    hosted, before = _crowd(jobs, load.sessions, "colocated", seconds), fleet.metrics()
    outcomes, after = fleet.play(hosted), fleet.metrics()
    draft_s, verify_s = (
        after[name] - before[name] for name in ("colocated_draft_seconds_total", "forward_seconds_sum")
    )
    return session_rate(outcomes, seconds), 1 + draft_s / verify_s, differing(hosted, outcomes)


def _recorded(options: Sequence[str]) -> list[Job]:
    """Jobs with their texts, and what the bundled draft says behind every base that `sync` comes to."""
    prompts = held_out_prompts(Tokenizer.load(load_draft(bundled_engine()).tokenizer_path), TEXTS)
    jobs = [
        Job(
            prompt,
            SamplingParams(temperature=0.8, seed=n, max_new_tokens=600, ignore_eos=True),
            "sync",
            record=True,
        )
        for n, prompt in enumerate(prompts)
    ]
    with serving(*options) as fleet:
        outcomes = fleet.play(jobs)
    return [
        replace(job, text=outcome.tokens, said=outcome.said, record=False)
        for job, outcome in zip(jobs, outcomes, strict=True)
    ]


def _crowd(jobs: Sequence[Job], count: int, mode: str, seconds: float) -> list[Job]:
    return [replace(jobs[number % len(jobs)], mode=mode, seconds=seconds) for number in range(count)]


def session_rate(outcomes: Sequence[Outcome], seconds: float) -> float:
    """Tokens a second of a session on the average, its first fifth left out."""
    start_s = seconds / 5
    counts = [sum(n for at_s, n in one.arrivals if start_s <= at_s < seconds) for one in outcomes]
    return float(np.mean(counts)) / (seconds - start_s)


def at_equal_rate(relative: dict[int, float]) -> float:
    """Sessions whose rate is the same, from rates relative to it, by the line through the counts that were measured."""
    counts = np.array(list(relative), dtype=float)
    slope, offset = np.polyfit(counts, np.array(list(relative.values())), 1)
    return float((1 - offset) / slope)
