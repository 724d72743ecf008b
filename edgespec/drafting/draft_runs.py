"""The draft's turn in a session's loop: what the speculator wants drafted goes through the engine, held to its pace and
timed for the measures.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from edgespec.core.measurements import Measurements
from edgespec.core.pacing import DraftPace
from edgespec.drafting.drafter import CacheFull, Drafter
from edgespec.drafting.speculator import Speculator


class Drafting:
    """pace: holds every run to a given time; None: runs take what they take."""

    def __init__(
        self, drafter: Drafter, speculator: Speculator, measurements: Measurements, pace: DraftPace | None
    ) -> None:
        self._drafter = drafter
        self._speculator = speculator
        self._measurements = measurements
        self._pace = pace

    def run(self) -> int | None:
        """One run, on so many nodes, or 0: on a chunk of the text. None: there is nothing to draft."""
        speculator = self._speculator
        start_s = time.monotonic()
        try:
            if self._drafter.prefill(speculator.text, speculator.tree):
                return 0
            nodes = speculator.expand()
            if not nodes:
                return None
            self._grow(nodes)
        except CacheFull:
            speculator.draft_full = True
            return 0
        self._measurements.draft_ms.observe(len(nodes), (time.monotonic() - start_s) * 1e3)
        return len(nodes)

    def _grow(self, nodes: Sequence[int]) -> None:
        speculator = self._speculator
        if self._pace is not None:
            self._pace.begin()
        for growth in self._drafter.grow(speculator.text, speculator.tree, nodes):
            speculator.grew(growth.node, growth.tokens, growth.probabilities)
        if self._pace is not None:
            self._pace.hold(len(nodes))
