"""How far `auto` is from the best fixed setting: the product's loops on a simulated clock, against a search.

    python -m benchmarks.criterion --json docs/results/criterion.json

Each cell is a link, a draft's time and an acceptance. The search looks for the fastest settings
that do not change: those of a streamed tree, by coordinates, and the best block of each mode that waits. The winner is
played again on other texts than it was chosen on, beside `auto` (cold: its first text; warm: the next ones) and
`cloud`. What sessions do to each other on one server is measured by `benchmarks.neighbours`.

Hints stay off, as in `auto`. Scripted exits err apart from the draft, real ones where it errs: here hints would gain
more than they do on real pairs (`benchmarks.hint_worth`).
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.results import Results, load, options
from edgespec.core.measurements import Measurements
from edgespec.drafting.auto import Auto
from edgespec.drafting.modes import WAITING_MODES, policy
from edgespec.drafting.policies import STREAM_OPTIONS, Cloud, Stream
from edgespec.drafting.policy import Policy
from edgespec.sim.plan import BLOCKS, PROMPT, Situation
from edgespec.sim.scripted_model import CalibratedModel
from edgespec.sim.simulation import simulate

NOTES = (
    "Simulated: the product's own loops on a simulated clock, with scripted models, without hints. Forwards take 28 "
    "ms; a row adds 1 % of a forward."
)
FORWARD_MS = 28.0
ROW_SHARE = 0.01
SEARCHED_SEEDS, PLAYED_SEEDS = (0, 1), (10, 11, 12, 13)

COORDINATES: dict[str, tuple[Any, ...]] = {
    "depth": (3, 6, 20),
    "rows": (2, 4, 6),
    "alternatives": (2, 4),
    "floor": (0.005, 0.01, 0.05, 0.2),
    "send_floor": (0.1, 0.3),
    "max_wait_ms": (8.0, 32.0),
}
START: dict[str, Any] = {
    "depth": 12, "rows": 3, "alternatives": 3, "floor": 0.02, "send_floor": 0.0,
    "max_wait_ms": 0.0,
}  # fmt: skip

WITHOUT_HINTS = [mode for mode in WAITING_MODES if mode != "preempt"]

CELL = ("rtt_ms", "draft_ms", "acceptance")

MakePolicy = Callable[[], Policy]


@dataclass(frozen=True)
class Cell:
    rtt_ms: float
    draft_ms: float
    acceptance: float

    @property
    def situation(self) -> Situation:
        return Situation(self.rtt_ms, FORWARD_MS, self.draft_ms, self.acceptance, forward_row_share=ROW_SHARE)


def main() -> int:
    quick = {"rtt_ms": [40.0], "draft_ms": [6.0], "acceptances": [0.6], "tokens": 40}
    arguments = options(
        "criterion", __doc__, quick,
        rtt_ms=[0.0, 20.0, 40.0, 80.0, 160.0], draft_ms=[1.5, 6.0, 14.0], acceptances=[0.5, 0.75],
        tokens=(200, "of a text"),
        sweeps=(1, "of the search over all coordinates; 0: only auto and cloud are played"),
        known=("", "a results file whose best settings are played again, in place of a search"),
    )  # fmt: skip
    results = Results("criterion", NOTES, arguments.json)
    cells = itertools.product(arguments.rtt_ms, arguments.draft_ms, arguments.acceptances)
    known = load(Path(arguments.known))["rows"] if arguments.known else []
    found = {Cell(*(row[name] for name in CELL)): row["best_setting"] for row in known}
    for cell in itertools.starmap(Cell, cells):
        results.add(measured(cell, arguments.tokens, arguments.sweeps, found.get(cell)))
    return 0


def measured(cell: Cell, tokens: int, sweeps: int, setting: str | None = None) -> dict[str, Any]:
    """setting: the best one, where it is known."""
    cloud = speed(cell, Cloud, tokens, PLAYED_SEEDS)
    row: dict[str, Any] = {**vars(cell), "cloud_tokens_per_s": cloud}
    auto = auto_speeds(cell, tokens)
    row |= {name: one / cloud for name, one in auto.items()}
    if sweeps:
        setting = setting or searched(cell, tokens, sweeps)
        best = speed(cell, named(setting), tokens, PLAYED_SEEDS)
        row |= {"best": best / cloud, "best_setting": setting}
        row |= {f"{name}_short_percent": 100 * (1 - row[name] / row["best"]) for name in auto}
    return row


def speed(cell: Cell, make_policy: MakePolicy, tokens: int, seeds: tuple[int, ...]) -> float:
    """Tokens a second."""
    total_ms = sum(_play(cell, make_policy(), tokens, seed) for seed in seeds)
    return 1e3 * tokens * len(seeds) / total_ms


def auto_speeds(cell: Cell, tokens: int) -> dict[str, float]:
    """Tokens a second of first texts, and of those that follow on the same link."""
    cold_ms, warm_ms, measurements = 0.0, 0.0, Measurements()
    for seed in PLAYED_SEEDS:
        cold_ms += _play(cell, Auto(), tokens, seed, measurements := Measurements())
    for seed in PLAYED_SEEDS:
        measurements = measurements.handed_on()
        warm_ms += _play(cell, Auto(), tokens, seed, measurements)
    played = 1e3 * tokens * len(PLAYED_SEEDS)
    return {"auto_cold": played / cold_ms, "auto_warm": played / warm_ms}


def _play(
    cell: Cell, chosen: Policy, tokens: int, seed: int, measurements: Measurements | None = None
) -> float:
    """Milliseconds of a text."""
    situation = cell.situation
    return simulate(
        CalibratedModel(cell.acceptance, seed=seed),
        chosen,
        PROMPT,
        max_new_tokens=tokens,
        timing=situation.timing(seed),
        measurements=measurements,
    ).milliseconds


def searched(cell: Cell, tokens: int, sweeps: int) -> str:
    """The name of the fastest fixed setting."""

    def of(make_policy: MakePolicy) -> float:
        return speed(cell, make_policy, tokens, SEARCHED_SEEDS)

    waiting = {
        f"{mode} {block}": partial(policy, mode, block)
        for mode, block in itertools.product(WITHOUT_HINTS, BLOCKS if cell.rtt_ms <= FORWARD_MS else ())
    }
    speeds = {name: of(make) for name, make in waiting.items()}
    settings, reached = START, of(partial(fixed, START))
    for _ in range(sweeps):
        before = reached
        for name, values in COORDINATES.items():
            for tried in ({**settings, name: value} for value in values if value != settings[name]):
                found = of(partial(fixed, tried))
                if found > reached:
                    settings, reached = tried, found
        if reached == before:
            break
    best = max(speeds, key=speeds.__getitem__, default="")
    if best and speeds[best] > reached:
        return best
    return " ".join(f"{name}={value}" for name, value in settings.items())


def named(setting: str) -> MakePolicy:
    """The policy of a name that `searched` gave."""
    if "=" not in setting:
        mode, _, block = setting.partition(" ")
        return partial(policy, mode, int(block))
    values = dict(one.split("=") for one in setting.split())
    return partial(fixed, {name: json.loads(value) for name, value in values.items()})


def fixed(settings: Mapping[str, Any]) -> Stream:
    """A streamed tree whose settings do not change."""
    asked = replace(STREAM_OPTIONS, hint_threshold=None, max_wait_ms=settings["max_wait_ms"])
    made = Stream(
        settings["depth"],
        rows=settings["rows"],
        alternatives=settings["alternatives"],
        floor=settings["floor"],
        options=asked,
    )
    made.send_floor = max(settings["floor"], settings["send_floor"])
    return made


if __name__ == "__main__":
    sys.exit(main())
