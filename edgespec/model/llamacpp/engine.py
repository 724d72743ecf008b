"""`LlamaCppEngine`: a `TargetEngine` over llama.cpp.

Draft trees are sequences (sequences.py); the tokens are sampled by edgespec's own rule from llama.cpp's logits. There
are no exits, so no hints.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import ForwardPacing
from edgespec.core.pictures import PictureFormat
from edgespec.model.llamacpp.sequences import Memory, Row, SequencePool, SessionSequences
from edgespec.model.sampling import Rows, decide_together
from edgespec.model.target_engine import Decisions, ForwardRequest


class Decoder(Memory, Protocol):
    """What runs the model. cells: of its memory."""

    cells: int

    def decode(self, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Run the rows and keep their keys and values; logits float32 [D, V] of those that are decided."""


class LlamaCppEngine:
    """decoder: see `load`. facts: of the model, as `TargetEngine` names
    them."""

    exit_layers: tuple[int, ...] = ()
    hint_cells = None
    trees = True
    picture_format: PictureFormat | None = None
    whole_pictures = False

    target_id: str
    vocabulary_hash: bytes
    vocabulary_size: int
    context_length: int
    end_tokens: tuple[int, ...]
    tokenizer_path: Path | None
    layers: int

    def __init__(self, decoder: Decoder, facts: dict[str, Any], pace: ForwardPacing | None = None) -> None:
        for name, value in facts.items():
            setattr(self, name, value)
        self._decoder = decoder
        self._pace = pace
        self.pages = SequencePool(decoder, decoder.cells)

    @classmethod
    def load(
        cls,
        target: str | Path | None,
        threads: int | None = None,
        kv_memory: int | str | None = None,
        pace: ForwardPacing | None = None,
        arguments: Mapping[str, Any] = MappingProxyType({}),
    ) -> LlamaCppEngine:
        """Load a GGUF file, or the folder that holds one. kv_memory: see `Target.load`. arguments: of llama.cpp's model
        and context. Raises EdgespecError."""
        from edgespec.model.llamacpp.decoder import LlamaDecoder  # llama_cpp

        decoder = LlamaDecoder(target, threads, kv_memory, arguments)
        return cls(decoder, decoder.facts(), pace)

    @property
    def forward_cost(self) -> Callable[[int], float] | None:
        return None if self._pace is None else self._pace.length_ms

    def open_cache(self, capacity: int) -> SessionSequences:
        return SessionSequences(self.pages)

    def encode_picture(self, pixels: NDArray[np.uint8]) -> Any:
        raise EdgespecError("this engine takes no pictures: serve the target by --engine own.")

    def forward_batch(
        self, requests: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Decisions]:
        """See `TargetEngine.forward_batch`."""
        if self._pace is not None:
            self._pace.begin(sum(len(request.piece) for request in requests))
        rows: list[Row] = []
        for request in requests:
            rows += request.cache.rows(request.piece, request.decide.tolist())
        logits = torch.from_numpy(self._decoder.decode(rows))
        decisions = decide_together(logits, [Rows.of(request) for request in requests])
        if self._pace is not None:
            self._pace.end()
        return decisions
