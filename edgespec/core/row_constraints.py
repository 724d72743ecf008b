"""What the rows of a forward may say, where that depends on the text behind which each of them decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Biases = tuple[NDArray[np.int32], NDArray[np.float32]]
"""Distinct token ids, and what is added to their logits."""


@dataclass(frozen=True)
class RowConstraints:
    """For D decided rows. seen: distinct token ids of each row's text, int32 [...], for the repetition penalty.
    biases: what is added to each row's logits. allowed: bits of the tokens that may
    come, int32 [D, ceil(V / 32)]. None: there is no such constraint."""

    seen: Sequence[NDArray[np.int32]] | None = None
    biases: Sequence[Biases] | None = None
    allowed: NDArray[np.int32] | None = None

    def rows(self, which: slice) -> RowConstraints:
        """Of these rows."""
        return RowConstraints(
            None if self.seen is None else self.seen[which],
            None if self.biases is None else self.biases[which],
            None if self.allowed is None else self.allowed[which],
        )
