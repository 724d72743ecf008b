"""What engines that are not edgespec's own share as a `TargetEngine`: no exits, so no hints; no pictures; the pace."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.pacing import ForwardPacing
from edgespec.core.pictures import PictureFormat
from edgespec.model.target_engine import Decisions, ForwardRequest


class OtherEngine(ABC):
    """facts: of the model, as `TargetEngine` names them. pace: holds every forward to a given time, for experiments."""

    exit_layers: tuple[int, ...] = ()
    hint_cells = None
    trees: bool
    picture_format: PictureFormat | None = None
    whole_pictures = False

    target_id: str
    vocabulary_hash: bytes
    vocabulary_size: int
    context_length: int
    end_tokens: tuple[int, ...]
    tokenizer_path: Path | None
    layers: int

    def __init__(self, facts: Mapping[str, Any], pace: ForwardPacing | None = None) -> None:
        for name, value in facts.items():
            setattr(self, name, value)
        self._pace = pace

    @property
    def forward_cost(self) -> Callable[[int], float] | None:
        return None if self._pace is None else self._pace.length_ms

    def encode_picture(self, pixels: NDArray[np.uint8]) -> Any:
        raise EdgespecError("this engine takes no pictures: serve the target by --engine own.")

    def forward_batch(
        self, requests: Sequence[ForwardRequest], exit_layers: Sequence[int] | None = None
    ) -> list[Decisions]:
        """See `TargetEngine.forward_batch`."""
        if self._pace is not None:
            self._pace.begin(sum(len(request.piece) for request in requests))
        decisions = self.decide(requests)
        if self._pace is not None:
            self._pace.end()
        return decisions

    @abstractmethod
    def decide(self, requests: Sequence[ForwardRequest]) -> list[Decisions]:
        """Run all requests' rows in one forward and decide each request's rows."""
