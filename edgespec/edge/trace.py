"""A session's timeline: what edge, link and cloud did when. Append-only; pictures are made from it elsewhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Lane = Literal["edge", "up", "down", "cloud"]
Kind = Literal["draft", "block", "hint", "verdict", "forward", "wait"]


@dataclass(frozen=True)
class Event:
    """One thing that happened, on the edge's monotonic clock (seconds).

    What happened at the server is placed by the edge: a verdict's forward ended half a round trip before it came.
    """

    lane: Lane
    kind: Kind
    start_s: float
    end_s: float
    detail: dict[str, object] = field(default_factory=dict)
