"""What `auto` learns from every verdict: what a forward cost, and when the next one begins."""

from __future__ import annotations

import time

from edgespec import _native
from edgespec.edge.uplink import Uplink
from edgespec.speculation.measures import Measures
from edgespec.speculation.speculator import Speculator


class Tuning:
    """Keeps the measures of one session, and tells the server when its policy chose anew."""

    def __init__(self, measures: Measures | None, speculator: Speculator, uplink: Uplink) -> None:
        self.measures = Measures() if measures is None else measures.handed_on()
        self._speculator = speculator
        self._uplink = uplink
        self._fed = False
        self._tuned_until_ms = 0.0

    def begin(self) -> None:
        """A text begins, here or at another server: its first forward reads the prompt, and measures nothing."""
        self._fed = False

    def learn(self, verdict: _native.Verdict) -> None:
        """Let the policy choose anew from what this verdict's forward cost."""
        measures, policy = self.measures, self._speculator.policy
        now_ms, forward_ms = time.monotonic() * 1e3, verdict.forward_us / 1e3
        measures.rtt_ms, measures.jitter_ms = self._uplink.rtt_ms, self._uplink.jitter_ms
        if self._fed:
            hints = None if now_ms < self._tuned_until_ms else policy.hints
            measures.saw_forward(verdict.rows, forward_ms, hints, len(verdict.tokens))
            measures.clock.verdict(now_ms, verdict.clock_us / 1e3, forward_ms)
        self._fed = True
        hints = policy.hints
        if self._speculator.adapt(measures):
            self._uplink.tune(policy)
        if hints != policy.hints:  # forwards that began before the server knows are on their way
            self._tuned_until_ms = now_ms + (measures.rtt_ms or 0.0) + 1.5 * forward_ms
