"""The hints of one session in one forward: which of its exits' guesses are worth sending, and their names on the wire.

Pure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from edgespec.core.messages import Hint
from edgespec.core.tree import COMMITTED_BIT, ROOT
from edgespec.verifying.verifier import PlannedRows, Verifier


@dataclass
class ForwardHints:
    """rows: what `verifier` planned for this forward."""

    verifier: Verifier
    rows: PlannedRows
    _last: tuple[int, int] | None = None

    @property
    def wanted(self) -> bool:
        return self.verifier.options.hint_threshold is not None and bool(self.rows.nodes)

    def __call__(self, path: Sequence[int], token: int, confidence: float, layer: int = 0) -> Hint | None:
        """The hint that the text goes on along these decided rows and then with `token`, if it is worth sending.
        layer: the exit's.

        None when it is not sure enough, ends in a row that is no number (token -1), continues a node that the edge
        does not know, or repeats what an earlier exit of this forward said.
        """
        threshold = self.verifier.options.hint_threshold
        if threshold is None or token < 0 or confidence < threshold:
            return None
        reference = self._reference(self.rows.nodes[path[-1] if path else 0])
        if not reference or self._last == (reference, token):
            return None
        self._last = (reference, token)
        return Hint(len(self.verifier.text), reference, token, confidence, layer)

    def of_decisions(self, tokens: Sequence[int], probabilities: Sequence[float]) -> Hint | None:
        """The hint of an exit's decisions, one a decided row: its confidence is the product along the path.

        The reference of what a target's exits compute in a kernel.
        """
        if not self.rows.nodes:
            return None
        path = self.rows.tree.walk(tokens)
        picks = [0, *path]
        return self(path, tokens[picks[-1]], math.prod(float(probabilities[pick]) for pick in picks))

    def references(self) -> list[int]:
        """What each decided row is called on the wire, as a hint's path ends there; 0: the edge does not know it."""
        return [self._reference(node) for node in self.rows.nodes]

    def _reference(self, node: int) -> int:
        if node == ROOT:
            return COMMITTED_BIT | len(self.verifier.text)
        return self.verifier.received.edge_id(node) or 0
