"""Exits whose hints leave without Python and without waiting for the GPU, while deeper layers still run.

Each exit's last kernel writes what it foretells of every session into a cell of memory that host and GPU share. A
mailbox (`_native.HintMailbox`), armed before the launch with the sessions that want hints, sends those that are sure
enough. Here is what a graph reads for it (`ExitColumns`), the arming, and the kernel's call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.kernels.data import CELL_WORDS, Cells, Curves
from edgespec.kernels.side_stream import SideStream
from edgespec.model.guesses import KernelGuesses
from edgespec.model.hints import ListenedRows
from edgespec.model.static_inputs import MAX_ROWS, ExitColumns, StaticInputs
from edgespec.model.target_engine import ForwardRequest, Mailbox

MAX_SESSIONS = MAX_ROWS
"""Of a forward, each with at least a row."""

LAST_NUMBER = 2**31 - 2
"""The last forward's number before they start at 1 again; even, so that odd and even keep alternating."""


class MailboxExits:
    """The exits of one target, and their cells: a `target_engine.HintCells`. curves: each exit's calibration, by
    layer."""

    def __init__(self, guesses: KernelGuesses, curves: Mapping[int, Curves], device: torch.device) -> None:
        self._guesses = guesses
        self._order = sorted(curves)
        self._curves = curves
        self._on_device = {layer: one.on(device) for layer, one in curves.items()}
        shape = (2, MAX_SESSIONS, len(curves), CELL_WORDS)
        self._words = torch.zeros(shape, dtype=torch.int32, pin_memory=device.type == "cuda")
        self._number = 0
        self._beside = SideStream(device) if device.type == "cuda" else None
        self.max_sessions = MAX_SESSIONS
        self.mailbox: Mailbox | None = None

    @property
    def cells(self) -> NDArray[np.int32]:
        words: NDArray[np.int32] = self._words.numpy()
        return words

    def wants(self, requests: Sequence[ForwardRequest]) -> bool:
        """Whether the mailbox can send the hints of all requests that listen."""
        listening = [one for one in requests if one.on_exit is not None]
        return self.mailbox is not None and bool(listening) and all(one.hint_address for one in listening)

    @contextmanager
    def armed(self, requests: Sequence[ForwardRequest]) -> Iterator[ExitColumns]:
        """Within, the mailbox sends hints of these requests' forward, which reads the columns; then each request is
        told how many were sent."""
        assert self.mailbox is not None
        self._number = self._number % LAST_NUMBER + 1
        deciding = [one for one in requests if len(one.decide)]
        addresses = [(place, one.hint_address) for place, one in enumerate(deciding) if one.hint_address]
        self.mailbox.arm(
            self._number,
            [(a.session, place, a.base_length, a.turn, a.threshold, a.references) for place, a in addresses],
        )
        try:
            yield self._columns(deciding)
        finally:
            sent = self.mailbox.retire(self._number)
            for (_, address), count in zip(addresses, sent, strict=False):
                address.sent(count)

    def publish(self, inputs: StaticInputs, layers: frozenset[int], layer: int, rows: torch.Tensor) -> None:
        """Write the cells of the exit after `layer`, if it is one of `layers`, from all rows [R, D] of the bucket."""
        if layer not in layers:
            return
        exit = self._order.index(layer)
        hidden = rows.index_select(0, inputs.selected)
        cells = Cells(self._words, inputs.sequence, exit)
        curves, curve_of = self._on_device[layer], inputs.curve_of[exit]
        self._guesses.publish(layer, hidden, inputs, curves, curve_of, cells, self._beside)

    def join(self) -> None:
        """The forward ends behind the last cell that it writes."""
        if self._beside is not None:
            self._beside.join()

    def _columns(self, requests: Sequence[ForwardRequest]) -> ExitColumns:
        rows = ListenedRows.of(requests)
        curve_of = [self._curves[layer].index(rows.session_temperatures) for layer in self._order]
        return ExitColumns(rows, np.stack(curve_of), self._number)
