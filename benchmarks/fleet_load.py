"""The load of benchmarks/fleet.py: processes of synthetic devices that ask a directory and write text after text."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.devices import Habits, Job, Outcome, live
from benchmarks.load import hear, start
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.directory import Directory
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import load_draft
from edgespec.model.target import Target
from edgespec.train.prompts import held_out_prompts
from edgespec.train.recording import record

TEXTS, PROCESSES = 12, 2
TEMPERATURE = 0.8
"""Of every other text; the others are greedy."""

SETTLE_S = 5.0
"""Until every device writes, and how long they go on after what happens."""


@dataclass
class Phase:
    """The texts that were written, and when what happened meanwhile began and ended (monotonic clock)."""

    texts: list[Outcome]
    began_s: float
    ended_s: float


class Load:
    """What devices write, and how they behave."""

    def __init__(self, directory: Directory, arguments: Any) -> None:
        self._directory, self._arguments = directory, arguments
        self._tokenizer_path = load_draft(bundled_engine()).tokenizer_path
        self._jobs = _recorded(arguments.tokens)

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """The tokens of each text, and of its prompt."""
        return [(len(job.text), len(job.prompt)) for job in self._jobs]

    def play(self, modes: Sequence[str], act: Callable[[], object]) -> Phase:
        """Devices write while `act` lasts, and somewhat longer."""
        arguments, texts = self._arguments, list[Outcome]()
        habits = Habits(modes, 0.0, arguments.draft_ms, arguments.acceptance, 0.0)
        given = self._directory, self._tokenizer_path
        numbers = [range(place, arguments.devices, PROCESSES) for place in range(PROCESSES)]
        pipes = [start(live, *given, own, self._jobs, habits)[1] for own in numbers]
        for pipe in pipes:
            pipe.recv()
        for pipe in pipes:
            pipe.send(float("inf"))
        hearing = threading.Thread(target=_hear_all, args=(pipes, texts), daemon=True)
        hearing.start()
        time.sleep(SETTLE_S)
        began_s = time.monotonic()
        act()
        ended_s = time.monotonic()
        time.sleep(SETTLE_S)
        for pipe in pipes:
            pipe.send(0.0)
        hearing.join()
        return Phase(texts, began_s, ended_s)


def _recorded(tokens: int) -> list[Job]:
    """Texts of this many tokens, half as many to half as many more, as the target writes each alone."""
    target, engine = Target.load(threads=1, deterministic=True), load_draft(bundled_engine())
    jobs = []
    for number, prompt in enumerate(held_out_prompts(Tokenizer.load(engine.tokenizer_path), TEXTS)):
        length, temperature = tokens * (TEXTS + 2 * number) // (2 * TEXTS), TEMPERATURE * (number % 2)
        trace = record(target, engine, [prompt], temperature=temperature, max_new_tokens=length, seed=number)
        params = SamplingParams(temperature, seed=number, ignore_eos=True)
        jobs.append(Job(prompt, replace(params, max_new_tokens=length), trace.texts[0].tokens))
    return jobs


def _hear_all(pipes: Sequence[Any], texts: list[Outcome]) -> None:
    """Until every process of devices has ended."""
    while pipes := [pipe for pipe in pipes if hear(pipe, texts)]:
        time.sleep(0.1)
