"""A device's memory: what it costs in microseconds, and what it gains on repetitive work.

    python -m benchmarks.memory --json docs/results/memory.json

The costs are processor time of one thread, in an index of the default size, full. The gains are simulated: the target's
own texts and the draft's own guesses were recorded from the bundled pair, and the product's loops play them on a
simulated clock, with what sessions before it left in the memory and in the measurements.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.memory_sets import SETS, prompts
from benchmarks.results import Results, options
from edgespec import _native
from edgespec.core.measurements import Measurements
from edgespec.core.remembered_texts import PROMPT_TOKENS, text_index
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import policy
from edgespec.edge.memory import Memory
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.model.target import Target
from edgespec.sim.plan import Situation
from edgespec.sim.scripted_model import TraceModel
from edgespec.sim.simulation import Outcome, simulate
from edgespec.sim.trace import RecordedText, Trace
from edgespec.train.recording import record

NOTES = (
    "Costs are processor time of one thread. Gains are simulated, from recorded texts of the bundled pair: "
    "target 28 ms, draft 6 ms, round trip 40 ms."
)
SITUATION = Situation(rtt_ms=40.0, forward_ms=28.0, draft_ms=6.0)
FIRST_TEXTS = 9
"""Texts of a set before the memory counts as filled."""


def main() -> int:
    arguments = _arguments()
    results = Results("memory", NOTES, arguments.json)
    results.add({"measured": "cost", **costs(arguments.lookups)})
    engine, target = load_draft(bundled_engine()), Target.load(None, threads=1)
    tokenizer = Tokenizer.load(engine.tokenizer_path)
    for name in arguments.sets:
        asked = [tokenizer.encode(prompt) for prompt in prompts(name, arguments.texts)]
        for temperature in arguments.temperatures:
            trace = record(
                target, engine, asked, temperature=temperature, max_new_tokens=arguments.max_new_tokens
            )
            results.add({"measured": "gain", "set": name, "temperature": temperature, **gains(trace)})
    return 0


def costs(lookups: int) -> dict[str, float]:
    """Of opening a full memory, looking up a node and inserting a token."""
    rng = np.random.default_rng(0)
    phrases = [rng.integers(0, 4096, rng.integers(4, 40)) for _ in range(5000)]
    with tempfile.TemporaryDirectory() as folder:
        memory = Memory(folder)
        texts = memory.texts("benchmark@0", bytes(32), 4096)
        capacity = memory.most_tokens
        while len(texts.index) < capacity:
            chosen = rng.integers(0, len(phrases), 20)
            texts.add(np.concatenate([phrases[i] for i in chosen]).tolist())
        open_ms = _cpu_us(lambda: Memory(folder).texts("benchmark@0", bytes(32), 4096), 3) / 1e3
    chosen_phrases = random.Random(1).choices(phrases, k=lookups)
    contexts = [[*phrase.tolist()] for phrase in chosen_phrases]
    index = texts.index
    return {
        "tokens": len(index),
        "index_mib": index.bytes / 2**20,
        "open_ms": open_ms,
        "lookup_us": _cpu_us(lambda: [index.find(context, context[:2]) for context in contexts], 5) / lookups,
        "insert_us": _cpu_us(lambda: [index.add([token]) for context in contexts for token in context], 3)
        / sum(len(context) for context in contexts),
    }


def _cpu_us(run: Callable[[], object], times: int) -> float:
    taken = []
    for _ in range(times):
        start_s = time.thread_time()
        run()
        taken.append((time.thread_time() - start_s) * 1e6)
    return statistics.median(taken)


def gains(trace: Trace) -> dict[str, float]:
    """Speeds as multiples of `cloud`, and tokens a forward, of texts played in order."""
    plain, remembering = _played(trace, False), _played(trace, True)
    cloud_ms = [_play(trace, text, "cloud").milliseconds for text in trace.texts]
    filled = slice(min(FIRST_TEXTS, len(cloud_ms) - 1), None)

    def speed(outcomes: Sequence[tuple[float, int]], which: slice) -> float:
        return sum(cloud_ms[which]) / sum(ms for ms, _ in outcomes[which])

    tokens = sum(len(text.tokens) for text in trace.texts[filled])
    return {
        "texts": len(cloud_ms),
        "auto_without": speed(plain, slice(None)),
        "auto_all": speed(remembering, slice(None)),
        "auto_without_from_tenth": speed(plain, filled),
        "auto_from_tenth": speed(remembering, filled),
        "tenth_text": cloud_ms[filled][0] / remembering[filled][0][0],
        "tokens_a_forward_from_tenth": tokens / sum(forwards for _, forwards in remembering[filled]),
    }


def _played(trace: Trace, remembering: bool) -> list[tuple[float, int]]:
    """Milliseconds and forwards of each text: a cold session first, then each from what the one before it measured."""
    index = text_index(1 << 16) if remembering else None
    measurements, played = Measurements(), []
    for text in trace.texts:
        measurements = measurements.handed_on() if measurements.forwards else measurements
        outcome = _play(trace, text, "auto", index, measurements)
        assert outcome.text == text.tokens
        if index is not None:
            index.add([*text.prompt[-PROMPT_TOKENS:], *text.tokens])
            index.end_text()
        played.append((outcome.milliseconds, outcome.forwards))
    return played


def _play(
    trace: Trace,
    text: RecordedText,
    mode: str,
    index: _native.TextIndex | None = None,
    measurements: Measurements | None = None,
) -> Outcome:
    return simulate(
        TraceModel(trace, text),
        policy(mode),
        text.prompt,
        max_new_tokens=len(text.tokens),
        timing=SITUATION.timing(0),
        memory=index,
        measurements=measurements,
    )


def _arguments() -> argparse.Namespace:
    quick = {"texts": 2, "max_new_tokens": 8, "lookups": 50, "sets": ["robot plans"], "temperatures": [0.0]}
    return options(
        "memory", __doc__, quick,
        sets=list(SETS), texts=50, max_new_tokens=64, temperatures=[0.0, 0.8], lookups=2000,
    )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
