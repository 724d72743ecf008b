"""An exit's hint, from hidden rows to the cells that a thread of the host watches; nobody waits for it meanwhile.

exit_head, then exit_verdict, then one cell a session: on CUDA in two launches, whose last writes to memory of the host
and releases what it wrote. csrc/net/hint_mailbox.hpp says what a cell holds, and sends it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from edgespec.kernels import arguments
from edgespec.kernels.exit_head import PLAIN, HeadSettings, exit_head
from edgespec.kernels.exit_verdict import Curves, Trees, exit_verdict

CELL_WORDS = 8


@dataclass(frozen=True)
class Cells:
    """Where the hints of exit number `exit` go.

    words: int32 [2, places, exits, 8], in memory that device and host share. sequence: int32 [1], where the rows are:
    the number of the running forward, above 0; odd and even ones have a half of the cells each.
    """

    words: Any
    sequence: Any
    exit: int

    @property
    def arguments(self) -> tuple[Any, Any, tuple[int, int, int]]:
        """As the kernel takes them: words, sequence, (exit, places, exits)."""
        return self.words, self.sequence, (self.exit, self.words.shape[1], self.words.shape[2])

    def check(self, sessions: int) -> None:
        """Raises EdgespecError for words that are not such, or too few for so many sessions."""
        arguments.matrix("words", self.words, (2, "places", "exits", CELL_WORDS), ("int32",))
        places, exits = self.words.shape[1:3]
        arguments.require(sessions <= places, "words", f"for {sessions} sessions or more", places)
        arguments.require(0 <= self.exit < exits, "exit", f"from 0 to {exits - 1}", self.exit)
        arguments.matrix("sequence", self.sequence, (1,), ("int32",))


def exit_hint(
    hidden: Any,
    norm: Any,
    head: Any,
    *,
    temperatures: Any,
    seeds: Any,
    positions: Any,
    draft_tokens: Any,
    trees: Trees,
    curves: Curves,
    curve_of: Any,
    cells: Cells,
    settings: HeadSettings = PLAIN,
    backend: str = "auto",
) -> None:
    """The hint of each session into its cell. Arguments as in exit_head and exit_verdict, but that sessions, and rows,
    may be followed by some that are nobody's: offsets then stay at their end. For CUDA everything but `words` is there
    already, so that nothing is copied and no one waits. Raises EdgespecError.
    """
    cells.check(len(trees.offsets) - 1)
    chosen = arguments.choose_backend(backend, hidden)
    columns = (temperatures, seeds, positions, draft_tokens)
    if chosen == "triton":
        from edgespec.kernels import exit_head_triton

        exit_head_triton.launch_with_tree(
            hidden, norm, head, *columns, settings, (trees, curves, curve_of), cells
        )
        return
    offsets = np.asarray(trees.offsets)
    sessions, rows = int(np.count_nonzero(np.diff(offsets))), int(offsets[-1])
    own = Trees(offsets[: sessions + 1], trees.parents[:rows], trees.tokens[:rows])
    scores = exit_head(
        hidden[:rows],
        norm,
        head,
        temperatures=temperatures[:rows],
        seeds=seeds[:rows],
        positions=positions[:rows],
        draft_tokens=draft_tokens[:rows],
        settings=settings,
        backend=chosen,
    )
    plain = Curves(np.asarray(curves.margins), np.asarray(curves.probabilities), curves.temperatures)
    hints = exit_verdict(scores.tokens, scores.margins, own, plain, curve_of[:sessions], backend=chosen)
    _publish(hints, cells)


def _publish(hints: Any, cells: Cells) -> None:
    from edgespec import _native

    number = int(cells.sequence[0])
    ends = np.where(
        hints.lengths > 0,
        np.take_along_axis(hints.paths, np.maximum(hints.lengths - 1, 0)[:, None], 1)[:, 0],
        0,
    )
    for place, (length, end, token, confidence) in enumerate(
        zip(hints.lengths, ends, hints.tokens, hints.confidences, strict=True)
    ):
        words = arguments.raw(cells.words)
        _native.publish_hint(words, number, place, cells.exit, length, end, token, confidence)
