"""How a session stands beside plain decoding: whether nodes of all sessions slow it down more than its own speed it up.

Counted in forwards without nodes. Plain decoding has a token in each of them. With nodes a forward takes longer, for
everybody in it, and commits more tokens, for those whose nodes are right. Pure.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

KEPT = 0.995
"""How much of what was seen stays at each forward: texts and neighbours change."""

UNKNOWN = 8.0
"""Forwards that say nothing, before anything is known."""

AHEAD = 1.02
"""Who is this much ahead of plain decoding needs no help; a text's luck is about as large."""

HELP = 10.0
"""The exponent of a weight. With a smaller one, sessions with bad drafts stay slower than plain decoding; a larger one
takes more from the others (simulated)."""


@dataclass
class Standing:
    """Of one session."""

    _tokens: float = UNKNOWN
    _forwards: float = UNKNOWN

    def observe(self, tokens: int, slowed: float) -> None:
        """A forward that nodes made `slowed` times as long has committed `tokens` tokens."""
        self._tokens = KEPT * self._tokens + tokens
        self._forwards = KEPT * self._forwards + slowed

    @property
    def weight(self) -> float:
        """Of its tokens, beside those of sessions that need no help (1)."""
        return math.pow(max(1.0, AHEAD * self._forwards / self._tokens), HELP)
