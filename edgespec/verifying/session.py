"""A session as the verifying loop sees it: its verifier, and when it has something to run. Pure: time is passed in."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from edgespec.core.messages import Block
from edgespec.verifying.offer import Offer
from edgespec.verifying.standing import Standing
from edgespec.verifying.verifier import Conclusion, PlannedRows, Verifier

OVERDUE_SHARE = 0.25
"""A session that is later than usual is expected after this share of the usual time."""

FORWARDS_AWAY = 64
"""Forwards that a session may have while its edge is away; their verdicts are kept for it. The second session of a
device that is away may have half as many, the third a third: others' forwards carry their rows, for nobody yet."""

RESOLUTION_S = 1e-9
"""A shorter wait is none: sums of times are not exact."""


@dataclass(eq=False)
class VerifyingSession:
    """number: its own in the loop. device: who opened it; tenant: whose device that is, None: its own. concluded_s:
    when its last forward ended; at first, when it was opened. latency_ms: its target for a token, None for none.
    away_since_s: when its edge lost its connections; None: it is connected."""

    number: int
    device: Hashable
    verifier: Verifier
    concluded_s: float
    latency_ms: float | None = None
    away_since_s: float | None = None
    tenant: Hashable = None
    waiting_for: int = 0
    """Pictures in its text that are not encoded yet, and a guide that is not compiled: it runs when all are."""
    standing: Standing = field(default_factory=Standing)
    _pauses_at: float = math.inf
    """The number of forwards after which it pauses."""
    _turnaround_s: float | None = None
    """From a verdict to the block that follows it, lately."""

    @property
    def low_priority(self) -> bool:
        return self.verifier.options.low_priority and self.latency_ms is None

    def set_away(self, since_s: float | None, others: int = 0) -> None:
        """Its edge has lost its connections, or has returned (None). others: sessions of its device that were away
        before."""
        self.away_since_s = since_s
        forwards = FORWARDS_AWAY // (1 + others)
        self._pauses_at = math.inf if since_s is None else self.verifier.forwards + forwards

    def wants_draft(self, alone: bool) -> bool:
        """Whether a draft that the server hosts works for its next forward. alone: no other session is ready."""
        wanted = self.verifier.options.server_draft
        return wanted == "required" or (wanted == "lent" and alone)

    def wait_s(self, now_s: float) -> float | None:
        """Seconds until its next forward may start; None: there is nothing to run."""
        verifier = self.verifier
        if not verifier.ready or self.waiting_for or verifier.forwards >= self._pauses_at:
            return None
        if not verifier.can_wait:
            return 0.0
        left_s = self.concluded_s + verifier.options.max_wait_ms / 1e3 - now_s
        return left_s if left_s > RESOLUTION_S else 0.0

    def expected_s(self, now_s: float) -> float | None:
        """Seconds until it will probably have something to run; None: that is not known, or it has it now."""
        wait_s = self.wait_s(now_s)
        if wait_s is not None:
            return wait_s or None
        turnaround_s, passed_s = self._turnaround_s, now_s - self.concluded_s
        if (
            turnaround_s is None
            or self.waiting_for
            or self.away_since_s is not None
            or self.verifier.finish is not None
            or passed_s >= 2 * turnaround_s
        ):
            return None
        return max(turnaround_s - passed_s, OVERDUE_SHARE * turnaround_s)

    def offer(self) -> Offer:
        """What it could run in the next forward."""
        asked = self.verifier.asked
        return Offer(
            self.number,
            self.device,
            self.verifier.pending,
            self.concluded_s,
            self.verifier.probabilities(),
            self.latency_ms,
            low_priority=self.low_priority,
            tenant=self.tenant,
            fills=not (asked or self.latency_ms),
            away=self.away_since_s is not None,
            context=self.verifier.slots.cached_length,
            weight=self.standing.weight,
        )

    def receive(self, block: Block, now_s: float) -> None:
        """Raises BadBlock, with nothing changed."""
        was_ready = self.verifier.ready
        self.verifier.receive(block)
        if not was_ready and self.verifier.ready:
            took_s = now_s - self.concluded_s
            last_s = self._turnaround_s
            self._turnaround_s = took_s if last_s is None else 0.7 * last_s + 0.3 * took_s

    def conclude(
        self, rows: PlannedRows, tokens: Sequence[int], walk: Sequence[int], forward_ms: float, now_s: float
    ) -> Conclusion | None:
        """A forward of its rows has ended; what that commits, None after a prefill chunk."""
        self.concluded_s = now_s
        conclusion = self.verifier.conclude(rows, tokens, walk, forward_ms, now_s * 1e3)
        if conclusion is not None:
            self.standing.observe(len(conclusion.verdict.tokens), rows.slowed)
        return conclusion
