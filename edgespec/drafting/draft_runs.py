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
        measurements.levels = drafter.levels

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
            levels = self._grow(nodes)
        except CacheFull:
            speculator.draft_full = True
            return 0
        cost = self._measurements.levels_ms if levels > 1 else self._measurements.draft_ms
        cost.observe(len(nodes), (time.monotonic() - start_s) * 1e3)
        return len(nodes)

    def _grow(self, nodes: Sequence[int]) -> int:
        """How many levels one run grew."""
        speculator, drafter = self._speculator, self._drafter
        text, tree = speculator.text, speculator.tree
        deep = speculator.policy.deep and len(nodes) == 1
        deep = deep and drafter.reaches(text, tree, nodes[0], speculator.remaining)
        if self._pace is not None:
            self._pace.begin()
        if deep:
            drafter.grow_levels(text, tree, nodes[0], speculator.grew)
        else:
            for growth in drafter.grow(text, tree, nodes):
                speculator.grew(growth.node, growth.tokens, growth.probabilities)
        levels = drafter.levels if deep else 1
        if self._pace is not None:
            self._pace.hold(drafter.level_branches if deep else len(nodes), levels)
        return levels
