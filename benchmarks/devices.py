"""Devices that live for long: text after text with time to think between, in a process that may be killed any moment.

What each text came to is told over a pipe as soon as it ends. Used by benchmarks/soak.py.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.fleet import Job
from benchmarks.replay import device
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer

MODES = ("sync", "cloud", "preempt", "auto", "colocated")
DRAFT_MS = (2.0, 6.0, 30.0)
BROKEN_OFF = 0.1
"""The rng that a text is broken off in the middle."""

STUCK_S = 120.0
"""A text that brings no token for so long is stuck."""


@dataclass
class Told:
    """One text. ended: finished, broken off, refused, lost or stuck; different: it is not what it is alone."""

    device: int
    mode: str
    ended: str
    first_ms: float | None = None
    token_ms: list[float] = field(default_factory=list)
    different: bool = False
    note: str = ""


@dataclass(frozen=True)
class Neighbourhood:
    """Devices of one process, behind one link. think_s: recorded times between texts, replayed from a place of each
    device's own."""

    address: tuple[str, int]
    tokenizer: Path
    devices: Sequence[int]
    jobs: Sequence[Job]
    think_s: Sequence[float]
    until_s: float


def live(pipe: Any, place: Neighbourhood) -> None:
    """A process: all its devices until the time is up; then None over the pipe."""
    telling = threading.Lock()
    tokenizer = Tokenizer.load(place.tokenizer)

    def tell(told: Told | None) -> None:
        with telling:
            pipe.send(told)

    def run(number: int) -> None:
        rng = random.Random(number)
        for text in range(1_000_000):
            time.sleep(max(0.0, min(place.think_s[(7 * number + text) % len(place.think_s)], _left_s(place))))
            if _left_s(place) <= 0:
                return
            tell(_play(place, tokenizer, number, rng))

    threads = [threading.Thread(target=run, args=(number,), daemon=True) for number in place.devices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tell(None)


def _left_s(place: Neighbourhood) -> float:
    return place.until_s - time.monotonic()


def _play(place: Neighbourhood, tokenizer: Tokenizer, number: int, rng: random.Random) -> Told:
    """One text, compared with what it is alone as far as it came."""
    job, mode = rng.choice(place.jobs), rng.choice(MODES)
    told = Told(number, mode, "finished")
    stop_at = rng.randrange(1, len(job.text)) if rng.random() < BROKEN_OFF else None
    drafts = [*job.prompt, *job.text] if mode not in ("cloud", "colocated") else ()
    try:
        with device(
            place.address, tokenizer, replace(job.params), mode, drafts, draft_ms=rng.choice(DRAFT_MS)
        ) as session:
            session.prompt(job.prompt)
            began_s = last_s = time.monotonic()
            while not session.finished and (stop_at is None or len(session.tokens) < stop_at):
                step = session.step(timeout_s=1.0)
                now_s = time.monotonic()
                if not step.tokens and now_s - last_s > STUCK_S:
                    told.ended = "stuck"
                    break
                if step.tokens and told.first_ms is None:
                    told.first_ms = (now_s - began_s) * 1e3
                elif step.tokens:
                    told.token_ms += [(now_s - last_s) * 1e3 / len(step.tokens)] * len(step.tokens)
                last_s = now_s if step.tokens else last_s
            told.different = session.tokens != job.text[: len(session.tokens)]
            if told.ended == "finished" and not session.finished:
                told.ended = "broken off"
    except EdgespecError as error:
        told.note = str(error)
        told.ended = "refused" if "refused" in told.note else "lost"
    return told
