"""Which cores each side runs on: the server two (it computes on one), edge and link one each, if there are four."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

SHARES = {"server": (0, 2), "edge": (2, 3), "link": (3, 4)}


def cores(role: str) -> set[int] | None:
    """The cores of a side; None where there are too few, or where processes cannot be pinned."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    allowed = sorted(_ALLOWED)
    return set(allowed[slice(*SHARES[role])]) if len(allowed) >= 4 else None


@contextlib.contextmanager
def pinned(role: str) -> Iterator[None]:
    """Run this thread, and the processes that it starts meanwhile, on a side's cores."""
    chosen = cores(role)
    if chosen is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def described() -> str:
    """How it was done, for the results."""
    if cores("server") is None:
        return "processes are not pinned to cores"
    return "server on two cores, edge on one, link on one, each side computing on one thread"


_ALLOWED: set[int] = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
