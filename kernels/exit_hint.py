"""An exit's hint, from hidden rows to the cells that a thread of the host watches; nobody waits for it meanwhile.

exit_head, then exit_verdict, then one cell a session. On CUDA these are three launches, and the last writes to memory
of the host and releases what it wrote. csrc/net/hint_mailbox.hpp says what a cell holds, and sends it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgespec import _native
from edgespec.kernels import arguments
from edgespec.kernels.arguments import INT32
from edgespec.kernels.data import Cells, Curves, HeadSettings, Hints, Trees
from edgespec.kernels.exit_head import PLAIN, checked, exit_head
from edgespec.kernels.exit_verdict import exit_verdict

if TYPE_CHECKING:
    from edgespec.kernels.side_stream import SideStream


def exit_hint(
    hidden: Any,
    norm: Any,
    head: Any,
    *,
    temperatures: Any,
    seeds: Any,
    positions: Any,
    scales: Any = None,
    trees: Trees,
    curves: Curves,
    curve_of: Any,
    cells: Cells,
    settings: HeadSettings = PLAIN,
    backend: str = "auto",
    beside: SideStream | None = None,
) -> None:
    """The hint of each session into its cell.

    Arguments as in exit_head and exit_verdict, but sessions, and rows, may be followed by spare ones: offsets then stay
    at their end. For CUDA everything but the cells' words is on the device, so that nothing is copied and nobody waits.
    beside: where the last launch goes, so that the layers that follow do not wait for it. Raises EdgespecError.
    """
    cells.check(len(trees.offsets) - 1)
    columns = (temperatures, seeds, positions)
    chosen = arguments.choose_backend(backend, hidden)
    if chosen == "triton":
        from edgespec.kernels import exit_head_launch  # imports torch

        columns = checked(hidden, norm, head, scales, *columns)
        trees = trees.checked(len(hidden))
        curve_of = arguments.column("curve_of", curve_of, INT32, trees.sessions)
        arguments.matrix("curves.margins", curves.margins, ("C", "K"), ("float32",))
        hints = exit_head_launch.HintRequest(trees, curves, curve_of, cells, beside)
        exit_head_launch.exit_head(hidden, norm, head, scales, columns, settings, hints)
        return
    offsets = arguments.raw(trees.offsets)
    sessions, rows = int(np.count_nonzero(np.diff(offsets))), int(offsets[-1])
    named = zip(("temperatures", "seeds", "positions"), columns, strict=True)
    own_columns = {name: column[:rows] for name, column in named}
    scores = exit_head(
        hidden[:rows], norm, head, **own_columns, scales=scales, settings=settings, backend=chosen
    )
    own = Trees(offsets[: sessions + 1], trees.parents[:rows], trees.tokens[:rows])
    found = exit_verdict(scores.tokens, scores.margins, own, curves, curve_of[:sessions])
    _publish(found, cells)


def _publish(hints: Hints, cells: Cells) -> None:
    number, words = int(cells.sequence[0]), arguments.raw(cells.words)
    for place, length in enumerate(hints.lengths):
        end = hints.paths[place, length - 1] if length else 0
        _native.publish_hint(
            words, number, place, cells.exit, length, end, hints.tokens[place], hints.confidences[place]
        )
