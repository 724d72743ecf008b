"""Synthetic devices: sessions whose draft replays a known text, right as often as it is told to be.

They cost next to nothing, so that one process plays many and the server is what is measured. A process of devices plays
text after text with time to think between, may be killed at any moment, and sends what each text came to over a pipe.
They have one server, or ask a directory of several.
"""

from __future__ import annotations

import random
import threading
import time
import zlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import DraftPacing
from edgespec.core.params import SamplingParams
from edgespec.core.slots import Piece
from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.directory import Directory
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session

Address = tuple[str, int]
Where = Address | Directory
"""Of the server, or of the directory that names one."""

STUCK_S = 120.0
"""A text that brings no token for this long is stuck."""


class ReplayDraft:
    """A draft engine that says what `text` has behind each position, right at the share `acceptance` of them."""

    capacity = 4096
    choices = 2
    tokenizer_path = Path("unused")
    eyes = None

    def __init__(self, text: Sequence[int], acceptance: float, tokenizer: Tokenizer) -> None:
        self.vocabulary_size = vocabulary_size = tokenizer.vocabulary_size
        self.vocabulary_hash = tokenizer.vocabulary_hash
        self._text = np.array([*text, 0], dtype=np.int64)
        shares = [zlib.crc32(repr(one).encode()) / 2**32 for one in enumerate(self._text.tolist())]
        wrong = np.array(shares) >= acceptance
        self._choices = np.where(wrong, (self._text + 1) % vocabulary_size, self._text)
        by_rank = (acceptance, (1 - acceptance) / 2)
        self.calibration: Any = SimpleNamespace(
            probability=lambda margin, temperature, rank: np.full(np.shape(margin), by_rank[rank])
        )

    def reset(self) -> None:
        """It remembers nothing."""

    def run(
        self, piece: Piece, noise: Any, noise_rows: Any, inverse_temperature: float, decide: Any = None
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        rows = np.arange(len(piece)) if decide is None else decide
        best = self._choices[np.minimum(piece.positions[rows] + 1, len(self._text) - 1)]
        tokens = np.stack([best, (best + 2) % self.vocabulary_size], axis=1).astype(np.int32)
        return tokens, np.tile(np.array([1.0, 0.0], dtype=np.float32), (len(rows), 1))


@dataclass(frozen=True)
class Job:
    """A prompt and the text that it has when nothing else runs."""

    prompt: list[int]
    params: SamplingParams
    text: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Habits:
    """How devices behave. think_s: between texts, on the average. break_off: the share of texts that are left early."""

    modes: Sequence[str]
    think_s: float
    draft_ms: float
    acceptance: float
    break_off: float


class Arrival(NamedTuple):
    """Tokens that came together, on the monotonic clock. forward_ms: of each of the target forwards since the last."""

    at_s: float
    tokens: int
    server: str
    forward_ms: float


@dataclass
class Outcome:
    """What one text came to. ended: finished, broken off, refused, stuck or lost (any other error). different: it is
    not its job's text. began_s: before its session was opened."""

    device: int
    ended: str = "finished"
    tokens: list[int] = field(default_factory=list)
    first_ms: float | None = None
    token_ms: list[float] = field(default_factory=list)
    different: bool = False
    note: str = ""
    began_s: float = 0.0
    arrivals: list[Arrival] = field(default_factory=list)


def play(
    where: Where,
    tokenizer: Tokenizer,
    job: Job,
    mode: str,
    habits: Habits,
    stop_at: int | None = None,
    device: int = 0,
) -> Outcome:
    """One text to its end, or to `stop_at` tokens, compared with the job's as far as it came."""
    outcome = Outcome(device, began_s=time.monotonic())
    place: dict[str, Any] = {"directory" if isinstance(where, Directory) else "server": where}
    draft: Any = None
    if mode not in ("cloud", "colocated"):
        draft = ReplayDraft([*job.prompt, *job.text], habits.acceptance, tokenizer)
    try:
        with Session(
            draft=draft,
            params=job.params,
            mode=mode,
            tokenizer=tokenizer,
            draft_pace=DraftPacing(habits.draft_ms),
            **place,
        ) as session:
            session.prompt(job.prompt)
            began_s = last_s = time.monotonic()
            forwards, forward_ms = 0, 0.0
            while not session.finished and (stop_at is None or len(session.tokens) < stop_at):
                tokens = len(session.step(timeout_s=1.0).tokens)
                now_s = time.monotonic()
                if tokens:
                    counts = session.statistics
                    each_ms = (counts.forward_ms - forward_ms) / max(1, counts.target_forwards - forwards)
                    forwards, forward_ms = counts.target_forwards, counts.forward_ms
                    outcome.arrivals.append(Arrival(now_s, tokens, str(session.address), each_ms))
                if tokens and outcome.first_ms is None:
                    outcome.first_ms = (now_s - began_s) * 1e3
                elif tokens:
                    outcome.token_ms += [(now_s - last_s) * 1e3 / tokens] * tokens
                elif now_s - last_s > STUCK_S:
                    outcome.ended = "stuck"
                    break
                last_s = now_s if tokens else last_s
            outcome.tokens = session.tokens
            outcome.different = bool(job.text) and session.tokens != job.text[: len(session.tokens)]
            if outcome.ended == "finished" and not session.finished:
                outcome.ended = "broken off"
    except Exception as error:
        outcome.note = str(error) if isinstance(error, EdgespecError) else repr(error)
        outcome.ended = "refused" if "refused" in outcome.note else "lost"
    return outcome


def live(
    pipe: Connection,
    where: Where,
    tokenizer_path: Path,
    devices: Sequence[int],
    jobs: Sequence[Job],
    habits: Habits,
) -> None:
    """A process: says that it is ready, is sent until when, and its devices play text after text; at the end it sends
    None. It may be sent another time meanwhile."""
    tokenizer, sending = Tokenizer.load(tokenizer_path), threading.Lock()
    pipe.send("ready")
    until_s = pipe.recv()

    def listen() -> None:
        nonlocal until_s
        with suppress(EOFError, OSError):
            while True:
                until_s = pipe.recv()

    def run(device: int) -> None:
        rng = random.Random(device)
        while True:
            think_s = rng.expovariate(1 / habits.think_s) if habits.think_s else 0.0
            left_s = until_s - time.monotonic()
            time.sleep(max(0.0, min(think_s, left_s)))
            if left_s <= think_s:
                return
            job, mode = rng.choice(jobs), rng.choice(habits.modes)
            stop_at = rng.randrange(1, len(job.text)) if rng.random() < habits.break_off else None
            outcome = play(where, tokenizer, job, mode, habits, stop_at, device)
            with sending:
                pipe.send(outcome)

    threading.Thread(target=listen, daemon=True).start()
    threads = [threading.Thread(target=run, args=(device,), daemon=True) for device in devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    pipe.send(None)


def wait_idle(pipe: Connection, address: Address, tokenizer_path: Path) -> None:
    """A process that keeps idle sessions: it opens the number it receives, each with a text of one token."""
    tokenizer, params = Tokenizer.load(tokenizer_path), SamplingParams(max_new_tokens=1, ignore_eos=True)
    link = LinkOptions(hedge=False)  # a server takes 512 connections from one address
    sessions: list[Session] = []
    while True:
        for _ in range(pipe.recv()):
            sessions.append(Session(address, None, params, mode="cloud", tokenizer=tokenizer, link=link))
            sessions[-1].prompt([10 + len(sessions) % 4000] * 8)
            for _ in sessions[-1]:
                pass
        pipe.send(len(sessions))
