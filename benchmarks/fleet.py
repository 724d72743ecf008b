"""A fleet of synthetic devices, spread over processes so that playing it does not hold the server back.

Each device is a session whose draft replays a known text (benchmarks/replay.py). All of them begin at once; what each
got and when comes back as an `Outcome`. Used by the benchmarks of capacity and load.
"""

from __future__ import annotations

import multiprocessing
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.recorded import Key, OutputBuffer, RecordedDraft, RecordingDraft
from benchmarks.replay import ReplayDraft
from edgespec.cli.child import child
from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import DraftPace
from edgespec.core.params import SamplingParams
from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.session import Session
from edgespec.engines.bundled import bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft

PROCESSES = 3
STUCK_S = 120.0
VOCABULARY = 4096


@dataclass(frozen=True)
class Job:
    """What one device plays.

    Its draft: `text` (what comes behind the prompt) is replayed, right at `acceptance` of the positions; or what was
    recorded, `said`; or, with `record`, the bundled engine drafts and what it says comes back. draft_ms: the pace of a
    token. seconds: it stops after so long; None: at the end of its text."""

    prompt: list[int]
    params: SamplingParams
    mode: str
    text: list[int] = field(default_factory=list)
    said: dict[Key, OutputBuffer] = field(default_factory=dict)
    record: bool = False
    draft_ms: float | None = None
    acceptance: float = 0.6
    seconds: float | None = None


@dataclass
class Outcome:
    """What a device got. arrivals: seconds since it began, and tokens that came then; refused: what the server said;
    said: what its draft said, where it was to be recorded."""

    tokens: list[int] = field(default_factory=list)
    arrivals: list[tuple[float, int]] = field(default_factory=list)
    seconds: float = 0.0
    refused: str | None = None
    said: dict[Key, OutputBuffer] = field(default_factory=dict)

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


@contextmanager
def serving(*options: str, processes: int = PROCESSES) -> Iterator[Fleet]:
    """A server of the bundled target with these options, a process of its own, and its fleet."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        metrics_port = free.getsockname()[1]
    serve = ["serve", "--port", "0", "--metrics-port", str(metrics_port), *options]
    tokenizer = load_draft(bundled_engine()).tokenizer_path
    with (
        child(serve, "starting a server ...") as address,
        Fleet(address, metrics_port, tokenizer, processes) as fleet,
    ):
        yield fleet


class Fleet:
    """Processes that play jobs on the server at `address`; a context manager."""

    def __init__(
        self, address: tuple[str, int], metrics_port: int, tokenizer: Path, processes: int = PROCESSES
    ) -> None:
        self.address = address
        self._metrics_port = metrics_port
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

    def metrics(self) -> dict[str, float]:
        """What the server counts, by the names that /metrics has behind `edgespec:`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._metrics_port}/metrics", timeout=30) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.removeprefix("edgespec:").rsplit(" ", 1) for line in lines if not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

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
    draft = _draft(job)
    session = Session(
        address,
        draft,
        job.params,
        mode=job.mode,
        tokenizer=tokenizer,
        draft_pace=None if job.draft_ms is None else DraftPace(job.draft_ms),
    )
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
        if isinstance(draft, RecordingDraft):
            outcome.said = draft.said


def _draft(job: Job) -> Any:
    """The engine of a device; None: it does not draft."""
    if not (job.record or job.said):
        return ReplayDraft([*job.prompt, *job.text], job.acceptance, VOCABULARY) if job.text else None
    engine: DraftEngine = load_draft(bundled_engine())
    if job.record:
        return RecordingDraft(engine)
    return RecordedDraft(job.said, engine.calibration, engine.capacity, engine.vocabulary_size)


def random_prompt(number: int, length: int) -> list[int]:
    """`length` tokens that depend on `number` alone."""
    return [int(token) for token in np.random.default_rng(number).integers(10, 4000, length)]


def differing(jobs: Sequence[Job], outcomes: Sequence[Outcome]) -> int:
    """How many texts are not what their jobs recorded, as far as they came."""
    pairs = zip(jobs, outcomes, strict=True)
    return sum(outcome.tokens != job.text[: len(outcome.tokens)] for job, outcome in pairs)
