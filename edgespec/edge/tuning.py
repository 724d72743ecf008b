"""How a session tunes itself: the link and every verdict are measured, and the server told what its policy asks for."""

from __future__ import annotations

import time

from edgespec import _native
from edgespec.core.measurements import Measurements
from edgespec.drafting.learning import Learning
from edgespec.drafting.speculator import Speculator
from edgespec.edge.connection import Uplink


class Tuning:
    """Feeds the measures of one session, and tells the server when its policy chose anew."""

    def __init__(self, measurements: Measurements, speculator: Speculator, uplink: Uplink) -> None:
        self._measurements = measurements
        self._learning = Learning(measurements, speculator)
        self._speculator = speculator
        self._policy = speculator.policy
        self._uplink = uplink
        self._trouble: str | None = None

    def begin(self) -> None:
        """A turn begins: its first forward reads its prompt."""
        self._learning.begin()

    def open(self) -> None:
        """A session begins, here or at another server, which knows nothing of what an earlier one was told. What was
        measured before goes into its OPEN."""
        self.begin()
        if self._measurements.forwards:
            self._look_at_link()
            self._speculator.adapt(self._measurements)

    def _look_at_link(self) -> None:
        measurements = self._measurements
        measurements.rtt_ms, measurements.jitter_ms = self._uplink.rtt_ms, self._uplink.jitter_ms
        measurements.server_drafts = self._uplink.hosts_draft

    def learn(self, verdict: _native.Verdict) -> None:
        """Let the policy choose anew from what this verdict's forward cost."""
        self._look_at_link()
        policy = self._policy
        forward_ms, ended_ms = verdict.forward_us / 1e3, verdict.clock_us / 1e3
        changed = self._learning.verdict(
            time.monotonic() * 1e3, verdict.rows, len(verdict.tokens), forward_ms, ended_ms
        )
        if changed:
            self._uplink.tune(policy.options)
        self._say(getattr(policy, "reasons", {}).get("link"))

    def _say(self, trouble: str | None) -> None:
        """Once, when it begins."""
        if trouble is not None and self._trouble is None:
            self._uplink.notes.append(trouble)
        self._trouble = trouble
