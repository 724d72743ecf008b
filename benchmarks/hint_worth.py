"""What hints gain mode `auto`: real pairs' drafts and exits, recorded and replayed on a simulated clock.

    python -m benchmarks.hint_worth --json docs/results/hint_worth.json
    python -m benchmarks.hint_worth --pair DIR

The target continues held-out prompts, and what draft and exits say at each position is kept. Then the product's loops
play these texts: `auto`, the same with hints, and that where exits cost nothing. Texts follow each other on the same
link, so all but the first are warm. Gains are of all texts' speed over `auto`, with the 95 % interval over the texts
(the bootstrap). They are why `auto` asks for no hints.
"""

from __future__ import annotations

import itertools
import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.interval import ratio_interval
from benchmarks.pairs import HELP, Pair
from benchmarks.results import Results, Row, options
from edgespec.core.measurements import Measurements
from edgespec.drafting.auto import Auto
from edgespec.drafting.speculator import Speculator
from edgespec.model.target import Target
from edgespec.sim.plan import Situation
from edgespec.sim.scripted_model import TraceModel
from edgespec.sim.simulation import simulate
from edgespec.sim.trace import Trace
from edgespec.train.recording import record

NOTES = "Simulated from recordings of a real pair: forwards take 28 ms, a row adds 1 % of a forward, and exits 3 %."
FORWARD_MS, ROW_SHARE, EXIT_COST = 28.0, 0.01, 0.03

LEAST_CONFIDENCE = (0.3, 0.7)
"""Of a hint, with no round trip and with one of a forward or more; interpolated in between."""


class Hinted(Auto):
    """`auto` that asks for hints."""

    def adapt(self, view: Speculator, measurements: Measurements) -> None:
        super().adapt(view, measurements)
        forward_ms, rtt_ms = measurements.forward_ms(1), measurements.rtt_ms or 0.0
        share = min(1.0, rtt_ms / forward_ms) if forward_ms else 0.0
        least, most = LEAST_CONFIDENCE
        self._ask(hint_threshold=round(least + share * (most - least), 1))


def main() -> int:
    quick = {"prompts": 2, "max_new_tokens": 24, "rtts": [20.0], "draft_ms": [6.0], "temperatures": [0.8]}
    arguments = options(
        "hint_worth", __doc__, quick,
        pair=(None, HELP), prompts=(200, "texts a cell"), max_new_tokens=96, temperatures=[0.0, 0.8],
        rtts=([0.0, 20.0, 40.0], "round trips in milliseconds"), draft_ms=([6.0], "of a run of the draft"),
    )  # fmt: skip
    pair = Pair.of(arguments.pair)
    results = Results("hint_worth", NOTES, arguments.json)
    target = Target.load(pair.target, exits=pair.exits)
    prompts = pair.prompts(arguments.prompts)
    for temperature in arguments.temperatures:
        trace = record(
            target, pair.engine, prompts, temperature=temperature, max_new_tokens=arguments.max_new_tokens
        )
        for draft_ms, rtt_ms in itertools.product(arguments.draft_ms, arguments.rtts):
            situation = Situation(
                rtt_ms, FORWARD_MS, draft_ms, forward_row_share=ROW_SHARE, exit_cost=EXIT_COST
            )
            cell = {"temperature": temperature, "draft_ms": draft_ms, "rtt_ms": rtt_ms}
            results.add({**cell, **_measured(trace, situation)})
    return 0


def _measured(trace: Trace, situation: Situation) -> Row:
    plain, hinted = (_played(kind, trace, situation) for kind in (Auto, Hinted))
    free = _played(Hinted, trace, replace(situation, exit_cost=0.0))
    return {
        "texts": len(trace.texts),
        "draft_right": trace.acceptance,
        "exits_right": " ".join(f"{share:.2f}" for share in trace.exit_agreement.values()),
        "auto_tokens_per_s": _speed(plain),
        **_gain("hints", plain, hinted),
        **_gain("free_hints", plain, free),
    }


def _played(kind: type[Auto], trace: Trace, situation: Situation) -> NDArray[np.float64]:
    """Tokens and seconds of each text, [texts, 2]."""
    played, measurements = [], Measurements()
    for seed, recorded in enumerate(trace.texts):
        outcome = simulate(
            TraceModel(trace, recorded),
            kind(),
            recorded.prompt,
            max_new_tokens=len(recorded.tokens),
            timing=replace(situation.timing(seed), exits=trace.exits),
            measurements=measurements,
        )
        if outcome.text != recorded.tokens:
            raise AssertionError("the simulation wrote another text than the recorded one")
        played.append((len(outcome.text), outcome.milliseconds / 1e3))
        measurements = measurements.handed_on()
    return np.array(played)


def _gain(name: str, before: NDArray[np.float64], after: NDArray[np.float64]) -> Row:
    speeds = (_speed(after) / _speed(before), *ratio_interval(after, before))
    return {
        f"{name}_{what}": 100 * (one - 1)
        for what, one in zip(("percent", "low", "high"), speeds, strict=True)
    }


def _speed(played: NDArray[np.float64]) -> float:
    tokens, seconds = played.sum(axis=0)
    return float(tokens / seconds)


if __name__ == "__main__":
    sys.exit(main())
