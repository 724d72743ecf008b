"""The decided rows of one session's forward as a draft tree, and the walk down it that a verdict follows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.slots import Piece

NO_PARENT = -1
"""The parent of a session's first row, which is the committed text."""


@dataclass(frozen=True)
class DecidedTree:
    """Row 0 is the committed text's end, every other row a node of the draft tree, behind its parent.

    parents int32 [D]: NO_PARENT where no row before is an ancestor, as of row 0. tokens int32 [D]: each node's; that of
    row 0 is not read.
    """

    parents: NDArray[np.int32]
    tokens: NDArray[np.int32]

    @classmethod
    def of(cls, piece: Piece, decide: NDArray[np.integer[Any]]) -> DecidedTree:
        """Of the rows `decide` of a piece: a row's parent is the nearest of its ancestors among them."""
        above = np.tril(piece.among[np.ix_(decide, decide)], -1)
        nearest = (np.arange(len(above)) * above).max(-1, initial=0)  # ancestors come first, the nearest last
        parents = np.where(above.any(-1), nearest, NO_PARENT).astype(np.int32)
        return cls(parents, piece.tokens[decide].astype(np.int32))

    @classmethod
    def nothing(cls) -> DecidedTree:
        """Of no rows."""
        return cls(np.empty(0, np.int32), np.empty(0, np.int32))

    @classmethod
    def chain(cls, drafted: Sequence[int]) -> DecidedTree:
        """The text, and these tokens behind it, each the only child of the one before."""
        return cls(np.arange(-1, len(drafted), dtype=np.int32), np.array([0, *drafted], dtype=np.int32))

    def __len__(self) -> int:
        return len(self.parents)

    def walk(self, choices: Sequence[int]) -> list[int]:
        """The rows behind row 0 that the choices [D], -1 for none, lead to one after another: their tokens are
        committed, and then the choice of the last."""
        if not len(self):
            return []
        parents, tokens = self.parents.tolist(), self.tokens.tolist()
        last_first = range(len(self) - 1, 0, -1)  # so that of equal siblings the first is found
        child_of = {(parents[row], tokens[row]): row for row in last_first}
        path: list[int] = []
        row = 0
        while choices[row] >= 0 and (child := child_of.get((row, choices[row]))) is not None:
            path.append(child)
            row = child
        return path
