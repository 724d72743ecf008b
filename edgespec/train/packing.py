"""Token streams cut into batches: rows packed end to end, every token once an epoch.

A stream is cut into windows at an offset drawn anew each epoch, and windows come in a drawn order, so that a batch
mixes rows. No window begins in the midst of a row that would be whole in a window that begins with it: without its
prompt, a target foretold its own greedy answer at 68 % of the tokens. So some rows are seen twice. The state is three
numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from edgespec.train.tokenizer import END_OF_TEXT


@dataclass(frozen=True)
class Stream:
    """Token ids int32 [N], rows end to end, and bool [N]: which of them are learnt. Both may lie on a disk."""

    tokens: NDArray[np.int32]
    learnt: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.tokens)

    @classmethod
    def of(cls, tokens: NDArray[np.int32]) -> Stream:
        """A stream that is learnt whole."""
        return cls(tokens, np.ones(len(tokens), dtype=np.bool_))


def pack(tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.int32]:
    """The bundled pair's texts end to end, each ended by <|endoftext|>."""
    end = tokenizer.token_to_id(END_OF_TEXT)
    encodings = tokenizer.encode_batch(texts)
    return np.concatenate([np.array([*encoding.ids, end], dtype=np.int32) for encoding in encodings])


class Batches:
    """Draws batches [rows, length] of about `tokens` tokens each from a stream."""

    def __init__(self, stream: Stream, tokens: int, seed: int) -> None:
        self._stream = stream
        self._tokens = tokens
        self._seed = seed
        self._epoch, self._length, self._cursor = 0, 0, 0
        self._starts = np.zeros(0, dtype=np.int64)
        learnt = stream.learnt
        self._prompts = np.flatnonzero(learnt[:-1] & ~learnt[1:]) + 1  # where a row with a prompt begins

    def next(self, length: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The next windows of `length` tokens (fewer if the stream is short): ids, and which are learnt. A new length
        starts an epoch."""
        length = max(2, min(length, len(self._stream) // 2))
        rows = max(1, self._tokens // length)
        if length != self._length or self._cursor + rows > len(self._starts):
            self.restore((self._epoch + 1, length, 0))
        starts = self._starts[self._cursor : self._cursor + rows]
        self._cursor += rows
        windows = [slice(start, start + length) for start in starts]
        return (
            np.stack([self._stream.tokens[one] for one in windows]).astype(np.int64),
            np.stack([self._stream.learnt[one] for one in windows]),
        )

    @property
    def in_an_epoch(self) -> int:
        """How many batches of the latest length its epoch has."""
        return len(self._starts) // max(1, self._tokens // self._length)

    def frequent(self, count: int, vocabulary_size: int) -> NDArray[np.int64]:
        """The stream's `count` most frequent tokens."""
        counts = np.bincount(self._stream.tokens, minlength=vocabulary_size)
        return np.argsort(-counts, kind="stable")[:count]

    def state(self) -> tuple[int, int, int]:
        return self._epoch, self._length, self._cursor

    def restore(self, state: tuple[int, int, int]) -> None:
        """Go on from a `state`."""
        self._epoch, self._length, self._cursor = state
        generator = np.random.default_rng([self._seed, self._epoch])
        offset = int(generator.integers(max(1, self._length)))
        self._starts = generator.permutation(list(self._cut(offset)))

    def _cut(self, offset: int) -> Iterator[int]:
        """Where an epoch's windows begin, the first about `offset`."""
        start = self._row_at(offset)
        while start + self._length <= len(self._stream):
            yield start
            end = start + self._length
            row = self._row_at(end)
            start = row if row > start else end

    def _row_at(self, place: int) -> int:
        """Where the row at `place` begins, if that is less than a window away; else `place`."""
        index = int(np.searchsorted(self._prompts, place, "right"))
        row = int(self._prompts[index - 1]) if index else 0
        return row if index and place - row < self._length else place
