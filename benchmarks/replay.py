"""Synthetic devices: sessions whose draft replays a known text, right as often as it is told to be.

They cost next to nothing, so that one process plays a fleet and the server is what is measured.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgespec.core.pacing import DraftPace
from edgespec.core.params import SamplingParams
from edgespec.core.slots import Piece
from edgespec.core.tokenizer import Tokenizer
from edgespec.edge.session import Session


class ReplayDraft:
    """A draft engine that says what `text` has behind each position, wrong with the probability 1 - acceptance."""

    capacity = 4096
    choices = 2
    tokenizer_path = Path("unused")

    def __init__(self, text: Sequence[int], acceptance: float, vocabulary_size: int) -> None:
        self.vocabulary_size = vocabulary_size
        self._text = np.array([*text, 0], dtype=np.int64)
        wrong = [zlib.crc32(repr((position, token)).encode()) / 2**32 >= acceptance for position, token in
                 enumerate(self._text.tolist())]  # fmt: skip
        self._output = np.where(wrong, (self._text + 1) % vocabulary_size, self._text)
        probabilities = (acceptance, (1 - acceptance) / 2)
        self.calibration: Any = SimpleNamespace(
            probability=lambda margin, temperature, rank: np.full(np.shape(margin), probabilities[rank])
        )

    def reset(self) -> None:
        """It remembers nothing."""

    def run(
        self,
        piece: Piece,
        noise: NDArray[np.float32] | None,
        noise_rows: NDArray[np.int32] | None,
        inverse_temperature: float,
        decide: NDArray[np.int32] | None = None,
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        rows = np.arange(len(piece)) if decide is None else decide
        best = self._output[np.minimum(piece.positions[rows] + 1, len(self._text) - 1)]
        tokens = np.stack([best, (best + 2) % self.vocabulary_size], axis=1).astype(np.int32)
        return tokens, np.tile(np.array([1.0, 0.0], dtype=np.float32), (len(rows), 1))


def device(
    address: tuple[str, int],
    tokenizer: Tokenizer,
    params: SamplingParams,
    mode: str,
    text: Sequence[int] = (),
    acceptance: float = 0.6,
    draft_ms: float | None = None,
) -> Session:
    """A session of a synthetic device; `text`: prompt and continuation, for modes that draft. draft_ms: the
    pace of its draft, a token."""
    return Session(
        address,
        ReplayDraft(text, acceptance, 4096) if text else None,  # type: ignore[arg-type]
        params,
        mode=mode,
        tokenizer=tokenizer,
        draft_pace=None if draft_ms is None else DraftPace(draft_ms),
    )


def finish(session: Session, prompt: Sequence[int]) -> list[int]:
    """Play a session to its end; what it generated."""
    with session:
        session.prompt(list(prompt))
        for _ in session:
            pass
        return session.tokens
