"""Questions to a directory of servers: how long they take, and whom it names."""

from __future__ import annotations

import random
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from edgespec.core.errors import EdgespecError
from edgespec.core.where import Place, Question
from edgespec.edge.directory import Directory

ASKERS = 32
"""Questions at once, at most."""


def ask(directory: Directory) -> Place:
    """For a session that has never asked. Raises EdgespecError."""
    return directory.ask(Question(secrets.token_hex(16)))


def asked_ms(directory: Directory, devices: int, seconds: float) -> list[float]:
    """How long each device's question takes, answered or not; they come at random within `seconds`, or one after
    another (0)."""
    rng, began_s = random.Random(0), time.monotonic()
    due_s = sorted(began_s + rng.uniform(0.0, seconds) for _ in range(devices))

    def spent_ms(at_s: float) -> float:
        time.sleep(max(0.0, at_s - time.monotonic()))
        start_s = time.perf_counter()
        with suppress(EdgespecError):
            ask(directory)
        return (time.perf_counter() - start_s) * 1e3

    with ThreadPoolExecutor(ASKERS if seconds else 1) as pool:
        return list(pool.map(spent_ms, due_s))


def named(directory: Directory, questions: int) -> set[str]:
    """The servers that it names, when asked this often; questions without an answer do not count."""
    found = set[str]()
    for _ in range(questions):
        with suppress(EdgespecError):
            found.add(str(ask(directory).address))
    return found
