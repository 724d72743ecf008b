"""A fleet of synthetic devices, spread over processes so that playing it does not hold the server back.

Each device is a session whose draft replays a known text (benchmarks/replay.py). All of them begin at once; what each
got and when comes back as an `Outcome`. Used by the benchmarks of capacity and load.
"""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.replay import device
from edgespec.edge.tokenizer import Tokenizer
from edgespec.errors import EdgespecError
from edgespec.params import SamplingParams

PROCESSES = 3
STUCK_S = 120.0


@dataclass(frozen=True)
class Job:
    """What one device plays. text: what comes behind the prompt, for its draft to replay; seconds: it stops after so
    long, whatever it has; None: at the end of its text. draft_ms: the pace of its draft, a token."""

    prompt: list[int]
    params: SamplingParams
    mode: str
    text: list[int] = field(default_factory=list)
    draft_ms: float | None = None
    acceptance: float = 0.6
    seconds: float | None = None


@dataclass
class Outcome:
    """What a device got. arrivals: seconds since it began, and tokens that came then; refused: what the server said."""

    tokens: list[int] = field(default_factory=list)
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    seconds: float = 0.0
    refused: str | None = None

    @property
    def tokens_per_s(self) -> float:
        return len(self.tokens) / self.seconds if self.seconds else 0.0

    @property
    def gaps_ms(self) -> list[float]:
        """Milliseconds between tokens behind the first ones; those that come together are spread evenly."""
        pairs = zip(self.arrivals, self.arrivals[1:], strict=False)
        return [
            (now_s - before_s) * 1e3 / tokens
            for (before_s, _), (now_s, tokens) in pairs
            for _ in range(tokens)
        ]


class Fleet:
    """Processes that play jobs on the server at `address`; a context manager."""

    def __init__(self, address: tuple[str, int], tokenizer: Path, processes: int = PROCESSES) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipes = []
        self._processes = []
        for _ in range(processes):
            here, there = context.Pipe()
            process = context.Process(target=_serve, args=(there, address, tokenizer), daemon=True)
            process.start()
            self._pipes.append(here)
            self._processes.append(process)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *error: object) -> None:
        for pipe in self._pipes:
            with suppress(OSError):
                pipe.send(None)
        for process in self._processes:
            process.join(10.0)

    def play(self, jobs: Sequence[Job]) -> list[Outcome]:
        """All jobs at once, from the moment when every device is connected; outcomes in the order of the jobs.

        Raises EdgespecError where a process of the fleet dies or a device is stuck.
        """
        used = list(zip(self._pipes, _dealt(jobs, len(self._pipes)), strict=True))
        for pipe, own in used:
            pipe.send(own)
        for pipe, _ in used:
            self._answer(pipe)
        for pipe, _ in used:
            pipe.send("go")
        shares = [self._answer(pipe) for pipe, _ in used]
        return [shares[i % len(shares)][i // len(shares)] for i in range(len(jobs))]

    def _answer(self, pipe: Any) -> Any:
        if not pipe.poll(STUCK_S):
            raise EdgespecError(
                f"a device of the fleet has been stuck for {STUCK_S:g} s: read the server's log."
            )
        answer = pipe.recv()
        if isinstance(answer, str) and answer != "ready":
            raise EdgespecError(answer)
        return answer


def _dealt(jobs: Sequence[Job], hands: int) -> Iterator[list[Job]]:
    for hand in range(hands):
        yield list(jobs[hand::hands])


def _serve(pipe: Any, address: tuple[str, int], tokenizer_path: Path) -> None:
    """A process of the fleet: plays what it is sent until it is sent nothing."""
    tokenizer = Tokenizer.load(tokenizer_path)
    while (jobs := pipe.recv()) is not None:
        outcomes = [Outcome() for _ in jobs]
        start, connected = threading.Event(), threading.Barrier(len(jobs) + 1)
        threads = [
            threading.Thread(
                target=_play, args=(address, tokenizer, job, outcome, connected, start), daemon=True
            )
            for job, outcome in zip(jobs, outcomes, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            connected.wait(STUCK_S)
        except threading.BrokenBarrierError:
            pipe.send("a device of the fleet cannot connect: read the server's log.")
            return
        pipe.send("ready")
        pipe.recv()
        start.set()
        for thread in threads:
            thread.join()
        pipe.send(outcomes)


def _play(
    address: tuple[str, int],
    tokenizer: Tokenizer,
    job: Job,
    outcome: Outcome,
    connected: threading.Barrier,
    start: threading.Event,
) -> None:
    drafts = [*job.prompt, *job.text] if job.text else ()
    session = device(address, tokenizer, job.params, job.mode, drafts, job.acceptance, job.draft_ms)
    with session:
        connected.wait()
        start.wait()
        began_s = time.monotonic()
        try:
            session.prompt(job.prompt)
            while not session.finished:
                step = session.step(timeout_s=1.0)
                now_s = time.monotonic() - began_s
                if step.tokens:
                    outcome.arrivals.append((now_s, len(step.tokens)))
                if job.seconds is not None and now_s >= job.seconds:
                    break
        except EdgespecError as error:
            outcome.refused = str(error)
        outcome.tokens = session.tokens
        outcome.seconds = time.monotonic() - began_s


def random_prompt(number: int, length: int) -> list[int]:
    """`length` tokens that depend on `number` alone."""
    return [int(token) for token in np.random.default_rng(number).integers(10, 4000, length)]
