"""What a session learns from every verdict, on real time and on a simulated clock alike: what a forward cost, when the
next one begins, how many tokens came in which time; then its policy chooses anew. Pure.
"""

from __future__ import annotations

from edgespec.core.measurements import CLOCK_MS, Measurements
from edgespec.drafting.speculator import Speculator


class Learning:
    """Feeds the measures of one session from its verdicts."""

    def __init__(self, measurements: Measurements, speculator: Speculator) -> None:
        self.measurements = measurements
        self._speculator = speculator
        self._fed = False
        self._ended_ms = 0.0
        self._settled_from_ms = 0.0
        self._changing = False

    def begin(self) -> None:
        """A text begins, here or at another server: its first forward reads the prompt, and measures nothing."""
        self._fed = False

    def verdict(self, now_ms: float, rows: int, tokens: int, forward_ms: float, ended_ms: float) -> bool:
        """A verdict is looked at now: its forward verified so many nodes, committed so many tokens, and ended at that
        time of the server's clock (which wraps). True when the policy asks something else of the server.

        Measurements are up to date on the link when this is called.
        """
        measurements, policy = self.measurements, self._speculator.policy
        if self._fed:
            settled = not self._changing and now_ms >= self._settled_from_ms
            self._changing = self._changing and now_ms < self._settled_from_ms
            hints = policy.options.hint_threshold is not None
            measurements.saw_forward(rows, forward_ms, hints if settled else None, tokens)
            measurements.clock.verdict(now_ms, ended_ms, forward_ms)
            if settled:
                measurements.saw_tokens(
                    tokens, (ended_ms - self._ended_ms) % CLOCK_MS, policy.options.server_draft == "lent"
                )
        self._fed, self._ended_ms = True, ended_ms
        before = policy.options
        changed = self._speculator.adapt(measurements)
        now = policy.options
        if (before.hint_threshold is None, before.server_draft) != (
            now.hint_threshold is None,
            now.server_draft,
        ):
            # Forwards from before the server knows are on their way, and the first one after it pays for the change.
            self._changing = True
            self._settled_from_ms = now_ms + (measurements.rtt_ms or 0.0) + 1.5 * forward_ms
        return changed
