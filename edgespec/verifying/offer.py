"""What a session could run in the next forward, and what the scheduler grants it of that. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Offer:
    """What a session could run. rows: tokens of its text that must run before anything is decided, 1 or more (many: a
    prompt, which may be taken in chunks). since_s: when it became ready. probabilities: of its drafted nodes to be
    committed, parents first, falling. latency_ms: its target for a token, None for none. low_priority: it runs in the
    room that others leave. fills: no edge waits for it. away: its edge is not connected. tenant: whose device it is;
    None: its own. context: tokens in front of its rows, which each of them attends to. weight: of its tokens, beside
    those of other sessions."""

    session: int
    device: Hashable
    rows: int
    since_s: float
    probabilities: Sequence[float] = ()
    latency_ms: float | None = None
    low_priority: bool = False
    tenant: Hashable = None
    fills: bool = False
    away: bool = False
    context: int = 0
    weight: float = 1.0


@dataclass
class Grant:
    """How many rows of its text, and how many of its nodes, a session may run in the next forward. price: the least
    probability with which one more of its nodes would have been worth a row. slowed: how many times as long the forward
    takes with everybody's nodes."""

    session: int
    rows: int
    nodes: int = 0
    price: float = 0.0
    slowed: float = 1.0
