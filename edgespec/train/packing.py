"""Token streams cut into batches: documents packed end to end, every token once an epoch.

A stream is cut into pages at an offset drawn anew each epoch; pages come in a drawn order and are cut
again into windows of the length asked for. The cursor is two numbers, so a run resumes where it was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgespec.train.corpus import Document
from edgespec.train.tokenizer import END_OF_TEXT

PAGE = 2048
"""Tokens a page unless a model's context is shorter."""

Stream = NDArray[np.int32]
"""Token ids [N], documents end to end."""


def pack(tokenizer: Tokenizer, documents: Sequence[Document]) -> Stream:
    """All documents as one stream of token ids, each ended by <|endoftext|>."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    pieces = [
        np.array([*encoding.ids, end], dtype=np.int32)
        for encoding in tokenizer.encode_batch([document.text for document in documents])
    ]
    return np.concatenate(pieces)


class Batches:
    """Draws batches int64 [rows, length] of `tokens` tokens each from a stream."""

    def __init__(self, stream: Stream, tokens: int, seed: int, page: int = PAGE) -> None:
        self._stream = stream
        self._page = max(1, min(page, len(stream) // 2))
        self._pages_a_batch = max(1, tokens // self._page)
        self._seed = seed
        self._epoch = 0
        self._cursor = 0
        self._starts = self._draw_epoch()

    def next(self, length: int) -> NDArray[np.int64]:
        """The next batch, cut into windows of `length` (at most a page) tokens."""
        if self._cursor + self._pages_a_batch > len(self._starts):
            self._epoch, self._cursor = self._epoch + 1, 0
            self._starts = self._draw_epoch()
        starts = self._starts[self._cursor : self._cursor + self._pages_a_batch]
        self._cursor += self._pages_a_batch
        length = min(length, self._page)
        keep = self._page // length * length
        pages = np.stack([self._stream[start : start + keep] for start in starts])
        return pages.reshape(-1, length).astype(np.int64)

    def state(self) -> tuple[int, int]:
        return self._epoch, self._cursor

    def restore(self, state: tuple[int, int]) -> None:
        self._epoch, self._cursor = state
        self._starts = self._draw_epoch()

    def _draw_epoch(self) -> NDArray[np.int64]:
        generator = np.random.default_rng([self._seed, self._epoch])
        offset = int(generator.integers(self._page))
        count = (len(self._stream) - offset) // self._page
        starts: NDArray[np.int64] = offset + self._page * generator.permutation(count)
        return starts
