"""`LlamaCppEngine`: a `TargetEngine` over llama.cpp.

Drafts are chains, and sessions are computed one after another (sequences.py says why); the tokens are sampled by
edgespec's own rule from llama.cpp's logits. There are no exits, so no hints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.pacing import ForwardPacing
from edgespec.model.llamacpp.sequences import Memory, Row, SequencePool, SessionSequence
from edgespec.model.other_engine import OtherEngine
from edgespec.model.sampling import Rows, decide_together
from edgespec.model.target_engine import Decisions, ForwardRequest


class Decoder(Memory, Protocol):
    """What runs the model. sequences: of its memory; cells: of each one."""

    sequences: int
    cells: int

    def decode(self, sequence: int, rows: Sequence[Row]) -> NDArray[np.float32]:
        """Run the rows behind a sequence, which keeps their keys and values; logits float32 [D, V] of those that are
        decided."""


class LlamaCppEngine(OtherEngine):
    """decoder: see `load`. facts, pace: see `OtherEngine`."""

    trees = False

    def __init__(self, decoder: Decoder, facts: Mapping[str, Any], pace: ForwardPacing | None = None) -> None:
        super().__init__(facts, pace)
        self._decoder = decoder
        self.pages = SequencePool(decoder, decoder.sequences, decoder.cells)

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

    def open_cache(self, capacity: int) -> SessionSequence:
        return SessionSequence(self.pages)

    def decide(self, requests: Sequence[ForwardRequest]) -> list[Decisions]:
        logits = [
            self._decoder.decode(*request.cache.rows(request.piece, request.decide.tolist()))
            for request in requests
        ]
        return decide_together(
            torch.from_numpy(np.concatenate(logits)), [Rows.of(request) for request in requests]
        )
