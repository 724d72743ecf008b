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
        self._fed = self._told = False
        self._clock_us = 0
        self._tuned_until_ms = 0.0
        self._trouble: str | None = None

    def begin(self) -> None:
        """A text begins, here or at another server: its first forward reads the prompt, and measures nothing."""
        self._fed = self._told = False

    def learn(self, verdict: _native.Verdict) -> None:
        """Let the policy choose anew from what this verdict's forward cost."""
        measures, policy = self.measures, self._speculator.policy
        now_ms, forward_ms = time.monotonic() * 1e3, verdict.forward_us / 1e3
        measures.rtt_ms, measures.jitter_ms = self._uplink.rtt_ms, self._uplink.jitter_ms
        measures.server_drafts = self._uplink.hosts_draft
        if self._fed:
            tuned = now_ms >= self._tuned_until_ms
            measures.saw_forward(
                verdict.rows, forward_ms, policy.hints if tuned else None, len(verdict.tokens)
            )
            measures.clock.verdict(now_ms, verdict.clock_us / 1e3, forward_ms)
            if tuned:
                passed_us = (verdict.clock_us - self._clock_us) % 2**32
                measures.saw_tokens(len(verdict.tokens), passed_us / 1e3, policy.borrows)
        self._fed, self._clock_us = True, verdict.clock_us
        before = policy.hints, policy.borrows
        changed = self._speculator.adapt(measures)
        untold = not self._told and (policy.borrows or policy.patience_ms)  # an OPEN does not say them
        if changed or untold:
            self._uplink.tune(policy)
        self._told = True
        self._say(getattr(policy, "reasons", {}).get("link"))
        if before != (policy.hints, policy.borrows):  # forwards from before the server knows are on their way
            self._tuned_until_ms = now_ms + (measures.rtt_ms or 0.0) + 1.5 * forward_ms

    def _say(self, trouble: str | None) -> None:
        """Once, when it begins."""
        if trouble is not None and self._trouble is None:
            self._uplink.notes.append(trouble)
        self._trouble = trouble
