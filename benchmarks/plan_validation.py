"""What `edgespec plan` predicts beside what the real stack does: the same prompts, links and paces, in one run.

    python -m benchmarks.plan_validation

A trace of the bundled pair on the prompts is recorded first; plan plays it on its simulated clock. The real stack is
server, link and edge with paced engines, as in `benchmarks.latency`. What lies around engines and link (overhead a
forward and a draft run, wake-ups) is measured once, on other prompts and another link, and holds for every setting. A
row is void if its engines overran their pace.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from statistics import fmean

from benchmarks.results import Results, Row, options
from benchmarks.settings import ORIN, SETTINGS, LatencySetting
from edgespec.cli.demo.figures import Pacing, Run, mode_figures
from edgespec.cli.demo.runs import Setting, play, serving
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import WAITING_MODES
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.model.target import Target
from edgespec.sim.plan import Situation, predict
from edgespec.sim.trace import Trace
from edgespec.train.prompts import held_out_prompts
from edgespec.train.recording import record

LINKS = (*(replace(ORIN, rtt_ms=rtt_ms) for rtt_ms in (0.0, 20.0, 40.0, 80.0)), SETTINGS["paper-jetson"][0])
CALIBRATION = replace(ORIN, name="calibration", rtt_ms=10.0)
CALIBRATION_PROMPTS = 3
BLOCK = 4
ROWS = 32
LIMIT = 0.05
NOTES = (
    "Links are emulated by a delaying proxy and engines paced; server, link and edge share one machine. Times of "
    "paper-jetson are played at a fifth. Predicted from a trace of the same prompts."
)


def main() -> int:
    quick = {"prompts": 1, "max_new_tokens": 12, "links": 1}
    arguments = options(
        "plan_validation", __doc__, quick, prompts=4, max_new_tokens=64, temperature=0.0,
        links=(len(LINKS), "the first of them, this many"), modes=["cloud", "sync", "preempt", "auto"],
    )  # fmt: skip
    engine = load_draft(bundled_engine())
    drawn = held_out_prompts(Tokenizer.load(engine.tokenizer_path), arguments.prompts + CALIBRATION_PROMPTS)
    prompts, others = drawn[: arguments.prompts], drawn[arguments.prompts :]
    target = Target.load(threads=1)
    recorded = {"temperature": arguments.temperature, "max_new_tokens": arguments.max_new_tokens, "seed": 1}
    trace, other_trace = (
        record(target, engine, some, **recorded) for some in (prompts, others)
    )  # `play`'s first seed
    constants = _constants(engine, others, other_trace)
    words = ", ".join(f"{name} {value:.2f}" for name, value in constants.items())
    results = Results("plan_validation", f"{NOTES} Around engines and link: {words}.", arguments.json)
    for link in LINKS[: arguments.links]:
        for row in _rows(link, engine, prompts, trace, arguments.modes, constants):
            results.add(row)
    valid = [row for row in results.rows if not row["void"]]
    met = sum(abs(row["deviation"]) <= LIMIT for row in valid)
    print(f"within {LIMIT:.0%}: {met} of {len(valid)} valid rows; void: {len(results.rows) - len(valid)}")
    return 1 if any(row["text_differs"] for row in results.rows) else 0


def _constants(engine: DraftEngine, prompts: Sequence[list[int]], trace: Trace) -> dict[str, float]:
    """The overheads of `Situation`: of forwards from `cloud`'s steady stream, of draft runs from those within a block,
    of wake-ups from what a round of `sync` takes beyond all that."""
    runs = _played(CALIBRATION, engine, prompts, trace, ("cloud", "sync"))
    plain, waiting = (runs[mode] for mode in ("cloud", "sync"))
    assert CALIBRATION.forward_ms is not None and CALIBRATION.draft_ms is not None
    seconds = sum(run.arrivals[-1][0] - run.arrivals[0][0] for run in plain)
    forwards = sum(len(run.arrivals) - 1 for run in plain)
    starts = [[event.start_s for event in run.trace if event.kind == "draft"] for run in waiting]
    steps_ms = [(after - before) * 1e3 for own in starts for before, after in pairwise(own)]
    in_block_ms = [step_ms for step_ms in steps_ms if step_ms < CALIBRATION.draft_ms + CALIBRATION.rtt_ms]
    constants = {
        "forward_overhead_ms": max(0.0, seconds / forwards * 1e3 - CALIBRATION.forward_ms),
        "draft_overhead_ms": max(0.0, fmean(in_block_ms) - CALIBRATION.draft_ms) if in_block_ms else 0.0,
    }
    predicted = predict(_situation(CALIBRATION, trace, constants), "sync", block=BLOCK, trace=trace)
    figures = mode_figures(waiting, ())
    late_ms = 1e3 / figures["tokens_per_s"] - 1e3 / predicted.tokens_per_s
    return {**constants, "wake_up_ms": max(0.0, late_ms / figures["forwards_per_token"])}


def _rows(
    link: LatencySetting,
    engine: DraftEngine,
    prompts: Sequence[list[int]],
    trace: Trace,
    modes: Sequence[str],
    constants: dict[str, float],
) -> Iterator[Row]:
    situation = _situation(link, trace, constants)
    for mode, runs in _played(link, engine, prompts, trace, modes).items():
        predicted = predict(situation, mode, block=BLOCK if mode in WAITING_MODES else None, trace=trace)
        figures = mode_figures(runs, ())
        yield {
            "setting": link.name,
            "RTT ms": link.rtt_ms,
            "mode": mode,
            "T": trace.temperature,
            "predicted tokens/s": predicted.tokens_per_s * link.scale,
            "measured tokens/s": figures["tokens_per_s"] * link.scale,
            "deviation": predicted.tokens_per_s / figures["tokens_per_s"] - 1,
            "predicted forwards a token": predicted.forwards_per_token,
            "measured forwards a token": figures["forwards_per_token"],
            "overruns": figures["overruns"] / max(1, figures["paced_steps"]),
            "void": figures["void"],
            "text_differs": any(list(run.tokens) != trace.texts[run.prompt].tokens for run in runs),
        }


def _played(
    link: LatencySetting,
    engine: DraftEngine,
    prompts: Sequence[list[int]],
    trace: Trace,
    modes: Sequence[str],
) -> dict[str, list[Run]]:
    """The real stack's runs, by mode."""
    setting = Setting(
        link.link,
        Pacing(link.scaled(link.draft_ms), link.scaled(link.forward_ms), ROWS),
        SamplingParams(temperature=trace.temperature, seed=0, max_new_tokens=len(trace.texts[0].tokens)),
        draft_tokens=BLOCK,
    )
    with serving(setting) as address:
        runs = list(play(address, engine, Tokenizer.load(engine.tokenizer_path), setting, prompts, modes))
    return {mode: [run for run in runs if run.mode == mode] for mode in modes}


def _situation(link: LatencySetting, trace: Trace, constants: dict[str, float]) -> Situation:
    forward_ms, draft_ms = link.scaled(link.forward_ms), link.scaled(link.draft_ms)
    assert forward_ms is not None and draft_ms is not None
    return Situation(link.link.rtt_ms, forward_ms, draft_ms, trace.acceptance, free_rows=ROWS, **constants)


if __name__ == "__main__":
    sys.exit(main())
