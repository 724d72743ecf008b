"""Exits whose hints leave without Python and without waiting for the GPU, while deeper layers still run.

Each exit's last kernel writes what it says of every session into a cell of memory that host and GPU share; a watcher
(`_native.HintMailbox`) that was told before the launch whose hints are wanted sends those that are sure enough. Here is
what a graph reads for it (`ExitColumns`), what is told to the watcher (`Watch`), and the kernels' call between.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.kernels.exit_hint import CELL_WORDS, Cells
from edgespec.kernels.exit_verdict import Curves
from edgespec.model.guesses import KernelGuesses
from edgespec.model.hints import parents_of
from edgespec.model.static_inputs import ExitColumns, StaticInputs
from edgespec.model.target_engine import ForwardRequest, Mailbox

PLACES = 64
"""Sessions of a forward: as many as rows of the largest bucket."""

LAST_NUMBER = 2**31 - 2
"""Of a forward, after which they begin anew: even, so that they go on odd and even in turns."""


class WatchedExits:
    """The exits of one target, by `guesses`, and their cells on `device`. curves: of each exit's calibration, by its
    layer."""

    def __init__(self, guesses: KernelGuesses, curves: Mapping[int, Curves], device: torch.device) -> None:
        self._guesses = guesses
        self._order = sorted(curves)
        self._curves = curves
        self._on_device = {layer: one.on(device) for layer, one in curves.items()}
        shape = (2, PLACES, len(curves), CELL_WORDS)
        self._words = torch.zeros(shape, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._number = 0
        self.max_sessions = PLACES
        self.mailbox: Mailbox | None = None

    @property
    def cells(self) -> NDArray[np.int32]:
        """The cells, int32 [2, PLACES, exits, 8], without a copy."""
        words: NDArray[np.int32] = self._words.numpy()
        return words

    def wants(self, parts: Sequence[ForwardRequest]) -> bool:
        """Whether a watcher can tell all of those who listen."""
        listening = [part for part in parts if part.on_exit is not None]
        return self.mailbox is not None and bool(listening) and all(part.hint_address for part in listening)

    @contextmanager
    def armed(self, parts: Sequence[ForwardRequest]) -> Iterator[ExitColumns]:
        """Within, the watcher sends hints of the forward of these parts, whose columns this gives; then each part is
        told how many it was sent."""
        assert self.mailbox is not None
        self._number = self._number % LAST_NUMBER + 1
        deciding = [part for part in parts if len(part.decide)]
        watches = [
            (place, part.hint_address) for place, part in enumerate(deciding) if part.hint_address is not None
        ]
        self.mailbox.arm(
            self._number,
            [(w.session, place, w.base_length, w.turn, w.threshold, w.references) for place, w in watches],
        )
        sent: list[int] = []
        try:
            yield self._columns(deciding)
        finally:
            sent = self.mailbox.retire(self._number)
            for (_, watch), count in zip(watches, sent, strict=False):
                watch.sent(count)

    def publish(self, inputs: StaticInputs, layers: frozenset[int], layer: int, rows: torch.Tensor) -> None:
        """Write the cells of the exit after `layer`, if it is one of `layers`, from all rows [R, D] of the bucket."""
        if layer not in layers:
            return
        exit = self._order.index(layer)
        hidden = rows.index_select(0, inputs.selected)
        cells = Cells(self._words, inputs.sequence, exit)
        self._guesses.publish(layer, hidden, inputs, self._on_device[layer], inputs.curve_of[exit], cells)

    def _columns(self, parts: Sequence[ForwardRequest]) -> ExitColumns:
        counts = [len(part.decide) for part in parts]
        temperatures = [part.sampling.temperature for part in parts]
        return ExitColumns(
            temperatures=np.repeat(np.array(temperatures, np.float32), counts),
            seeds=np.repeat(np.array([part.seed for part in parts], np.uint64), counts).view(np.int64),
            positions=np.concatenate([part.piece.positions[part.decide] + 1 for part in parts]),
            offsets=np.cumsum([0, *counts]),
            parents=np.concatenate([parents_of(part) for part in parts]),
            tokens=np.concatenate([part.piece.tokens[part.decide] for part in parts]),
            curve_of=np.stack([self._curves[layer].index(temperatures) for layer in self._order]),
            sequence=self._number,
        )
