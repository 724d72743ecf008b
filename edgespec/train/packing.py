"""Token streams cut into batches: documents packed end to end, every token once an epoch.

A stream is cut into windows at an offset drawn anew each epoch, and windows come in a drawn order, so that a batch
mixes documents. The state is three numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgespec.train.corpus import Document
from edgespec.train.tokenizer import END_OF_TEXT

Stream = NDArray[np.int32]
"""Token ids [N], documents end to end."""


def pack(tokenizer: Tokenizer, documents: Sequence[Document]) -> Stream:
    """All documents as one stream of token ids, each ended by <|endoftext|>."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    encodings = tokenizer.encode_batch([document.text for document in documents])
    return np.concatenate([np.array([*encoding.ids, end], dtype=np.int32) for encoding in encodings])


class Batches:
    """Draws batches int64 [rows, length] of about `tokens` tokens each from a stream."""

    def __init__(self, stream: Stream, tokens: int, seed: int) -> None:
        self._stream = stream
        self._tokens = tokens
        self._seed = seed
        self._epoch, self._length, self._cursor = 0, 0, 0
        self._starts = np.zeros(0, dtype=np.int64)

    def next(self, length: int) -> NDArray[np.int64]:
        """The next windows of `length` tokens (fewer if the stream is short); a new length starts an epoch."""
        length = min(length, len(self._stream) // 2)
        rows = max(1, self._tokens // length)
        if length != self._length or self._cursor + rows > len(self._starts):
            self.restore((self._epoch + 1, length, 0))
        starts = self._starts[self._cursor : self._cursor + rows]
        self._cursor += rows
        return np.stack([self._stream[start : start + length] for start in starts]).astype(np.int64)

    def state(self) -> tuple[int, int, int]:
        return self._epoch, self._length, self._cursor

    def restore(self, state: tuple[int, int, int]) -> None:
        """Go on from a `state`."""
        self._epoch, self._length, self._cursor = state
        generator = np.random.default_rng([self._seed, self._epoch])
        offset = int(generator.integers(self._length))
        count = (len(self._stream) - offset) // self._length
        self._starts = offset + self._length * generator.permutation(count)
