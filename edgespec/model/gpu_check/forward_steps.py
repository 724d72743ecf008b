"""The steps of a check that run a target: its text and hints against the CPU's, and the times of forwards."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.slots import SLOT_BUCKET, SlotMap
from edgespec.core.tree import DraftTree
from edgespec.model.gpu_check.agreement import NEAR_TIES
from edgespec.model.gpu_check.models import GREEDY, SAMPLED, request_behind, target_of
from edgespec.model.gpu_check.place import Place, Row, Shape
from edgespec.model.target import Target
from edgespec.model.target_engine import ForwardRequest, HintAddress

PROMPT = [5, 80, 17, 300, 44, 80, 17, 300, 9]


class Watcher:
    """Reads the hints' cells in a thread while forwards run. early: hints that were there before their verdict."""

    def __init__(self, cells: Any) -> None:
        self._cells = cells
        self._running = threading.Event()
        self._thread = threading.Thread()
        self.early = 0

    def arm(self, sequence: int, watches: Any) -> None:
        self._running.set()
        self._thread = threading.Thread(target=self._read, args=(sequence,))
        self._thread.start()

    def retire(self, sequence: int) -> list[int]:
        self._running.clear()
        self._thread.join()
        return []

    def _read(self, sequence: int) -> None:
        seen = 0
        while self._running.is_set():
            seen = int((self._cells[sequence % 2, :1, :, 0] == sequence).sum())
        self.early += seen


def texts_agree(place: Place) -> Iterator[Row]:
    """The bundled target's text is the CPU's, and on a GPU hints come before verdicts. Raises EdgespecError."""
    target = Target.load(dtype="float32", device=str(place.device))
    plain = Target.load(dtype="float32", device="cpu")
    watcher = None
    if target.hint_cells is not None:
        watcher = target.hint_cells.mailbox = Watcher(target.hint_cells.cells)
    for sampling in (GREEDY, SAMPLED):
        got, _ = _text(target, sampling, place.tokens)
        wanted, margins = _text(plain, sampling, place.tokens)
        first = next((i for i in range(place.tokens) if got[i] != wanted[i]), None)
        if first is not None and margins[first] > NEAR_TIES[torch.float32]:
            raise EdgespecError(
                f"token {first} of the text at {sampling.temperature} is another than the CPU's."
            )
        yield {"what": "text", "temperature": sampling.temperature, "tokens": place.tokens, "same": True}
    graphs = target.runner.graphs
    if place.device.type == "cuda" and (graphs is None or graphs.failed or watcher is None):
        raise EdgespecError("forwards did not run as CUDA graphs: the log says why.")
    if watcher is not None:
        if not watcher.early:
            raise EdgespecError("no hint was there before its verdict.")
        yield {"what": "hints before verdicts", "early": watcher.early}


def forward_times(place: Place) -> Iterator[Row]:
    """A forward of 1 and 8 rows behind texts of some lengths, beside the time in which its weights are read."""
    speed = place.bytes_per_us()
    for shape in place.shapes:
        yield from _forwards_of(shape, place, speed)
        place.give_back()


def _forwards_of(shape: Shape, place: Place, speed: float) -> Iterator[Row]:
    target = target_of(shape, place)
    weights = sum(one.nbytes for one in target.model.module.parameters())
    floor = (weights - target.model.module.get_input_embeddings().weight.nbytes) / speed
    for slots, rows in itertools.product(place.slots, (1, 8)):
        request = request_behind(target, slots - SLOT_BUCKET // 2, rows)
        taken = place.median_us(partial(target.forward_batch, [request]))
        request.cache.release()
        yield {
            "shape": shape.name, "slots": slots, "rows": rows, "us": taken, "over_floor": taken / floor,
        }  # fmt: skip


def _text(target: Target, sampling: SamplingParams, tokens: int) -> tuple[list[int], list[float]]:
    """The target's text behind PROMPT, a token a forward; and the margins."""
    text, margins = list(PROMPT), []
    slots = SlotMap(len(PROMPT) + tokens + SLOT_BUCKET)
    cache = target.open_cache(slots.capacity)
    while len(text) < len(PROMPT) + tokens:
        piece = slots.plan(text, len(text), DraftTree(len(text)), [])
        decide = np.arange(len(piece) - 1, len(piece))
        address = HintAddress(0, len(text), 0, 0.0, np.ones(1, np.uint32), lambda count: None)
        given = cache, piece, decide, sampling, sampling.seed or 0, lambda rows: None
        (decisions,) = target.forward_batch([ForwardRequest(*given, hint_address=address)])
        text.append(int(decisions.tokens[0]))
        margins.append(float(decisions.margins[0]))
    cache.release()
    return text[len(PROMPT) :], margins
