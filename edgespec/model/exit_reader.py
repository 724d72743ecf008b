"""Reads a model's exits while a forward runs: guesses the rows that sessions listen to, and tells them at once.

Forwards on a CPU and eager ones call each session's `on_exit`; forwards by CUDA graphs leave hints in memory that a
mailbox watches (mailbox_exits.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from edgespec.core.errors import EdgespecError
from edgespec.kernels.data import Curves
from edgespec.model.decoder import NativeDecoder
from edgespec.model.guesses import KernelGuesses, scaled
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.mailbox_exits import MailboxExits
from edgespec.model.sampling import Rows, guess_together
from edgespec.model.static_inputs import StaticInputs
from edgespec.model.taps import Exits, Tap
from edgespec.model.target_engine import ExitRows, ForwardRequest


class ExitReader:
    """Exit heads, hooked onto their layers. decoder: the native decoder, if the model runs on it. reached: called
    before an exit tells, with the share of the layers that have run. narrow: on a GPU they read an LM head of 8
    bits."""

    def __init__(
        self,
        model: LoadedModel,
        exits: Exits,
        decoder: NativeDecoder | None = None,
        reached: Callable[[float], None] | None = None,
        narrow: bool = False,
    ) -> None:
        """Raises EdgespecError where the exits are another model's."""
        count = len(model.decoder_layers)
        if not exits.layers or not all(0 < layer < count for layer in exits.layers):
            raise EdgespecError(
                f"the exit heads sit after layers {list(exits.layers)}, but {model.name} has {count} layers: they were "
                "trained for another target."
            )
        self.layers = tuple(sorted(exits.layers))
        self.exits = exits
        self.guesses = KernelGuesses.wanted(exits, model.head, model.config, decoder, narrow)
        self.mailbox_exits: MailboxExits | None = None
        self._curves = {layer: Curves.of(exits.calibration(layer)) for layer in self.layers}
        self._model = model
        self._reached = reached
        self._forward_tap: Tap | None = None
        self._tap: Tap | None = None
        self._publish: Callable[[int, torch.Tensor], None] | None = None
        self._published: frozenset[int] = frozenset()
        for layer in self.layers:
            model.decoder_layers[layer - 1].register_forward_hook(partial(self._hook, layer))

    def use_mailbox(self) -> None:
        """Graphs leave hints in cells from now on, where the exits' kernel can write them."""
        if self.guesses is not None:
            self.mailbox_exits = MailboxExits(self.guesses, self._curves, self._model.device)

    @contextmanager
    def listening(self, requests: Sequence[ForwardRequest], layers: frozenset[int]) -> Iterator[None]:
        """Within, the exits after `layers` are read for the requests with an `on_exit`."""
        self._forward_tap = self._tap = Tap.of(requests, layers)
        try:
            yield
        finally:
            self._forward_tap = self._tap = None

    @contextmanager
    def publishing(self, inputs: StaticInputs, layers: frozenset[int]) -> Iterator[None]:
        """Within, the exits after `layers` write cells."""
        cells = self.mailbox_exits
        if cells is not None:
            self._publish, self._published = partial(cells.publish, inputs, layers), layers
        try:
            yield
            if cells is not None:
                cells.join()
        finally:
            self._publish, self._published = None, frozenset()

    @property
    def listens(self) -> bool:
        return self._tap is not None

    @property
    def stops(self) -> list[int]:
        """The layers whose exits are read now, rising."""
        return sorted(self._published | (frozenset() if self._tap is None else self._tap.layers))

    def narrow(self, first: int, last: int) -> None:
        """Only rows [first, last) of the batch run next; a session whose rows are cut hears nothing."""
        if self._forward_tap is not None:
            self._tap = self._forward_tap.within(first, last)

    def reach(self, layer: int, rows: torch.Tensor) -> None:
        """Guess the rows [R, D] after `layer` that are listened to and tell, before the next layer starts."""
        if self._publish is not None:
            self._publish(layer, rows)
        tap = self._tap
        if tap is None or layer not in tap.layers:
            return
        hidden = rows.index_select(0, tap.selected.to(rows.device))
        if self.guesses is not None and self.guesses.pay(len(hidden)):
            tokens, margins = self.guesses(layer, hidden, tap.rows)
        else:
            logits = scaled(self._model.head(self.exits.rows(layer, hidden)), self._model.config)
            tokens, margins = guess_together(logits, [Rows.of(part) for part, _ in tap.parts])
        hints = tap.rows.hints(tokens, margins, self._curves[layer])
        ends = tap.rows.trees.offsets[1:-1]
        if self._reached is not None:
            self._reached(layer / len(self._model.decoder_layers))
        said = zip(np.split(tokens, ends), np.split(margins, ends), hints, strict=True)
        for (request, _), one in zip(tap.parts, said, strict=True):
            assert request.on_exit is not None
            request.on_exit(ExitRows(layer, *one))

    def _hook(self, layer: int, module: torch.nn.Module, args: object, output: Any) -> None:
        self.reach(layer, (output[0] if isinstance(output, tuple) else output)[0])
