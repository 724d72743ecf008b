"""Batches with the target's hidden rows, each learnt from several times.

The target's forward is most of a step's cost, so its rows are kept in a file of bounded size, and every batch is drawn
from it a few times, each time among others. Where the file holds a whole epoch, the target runs no more.

With a large vocabulary the LM heads would be the other part of the cost. So a step learns the target's distribution
over some tokens only: those of the batch, the most frequent ones, and others at random, so that none is forgotten (as
sampled softmax does). Rows whose logits would fill the memory are left out of a step.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.train.packing import Batches
from edgespec.train.teacher import Teacher

LOGITS_AT_ONCE, ON_A_GPU = 1 << 25, 8
"""Logits of one head that a step computes, and the factor by which a GPU computes more."""

USES_A_BATCH = 3

CLASSES = 8192
"""Tokens that a step learns about; of a vocabulary that is less than twice as large, all."""

FREQUENT = CLASSES // 2
ROWS_APART = 128
"""The learnt rows of a batch are a multiple of it, and the number of tokens is the same each time: on a CPU torch keeps
some 4 MB of code for each shape of a bfloat16 product."""


@dataclass(frozen=True)
class Taught:
    """A batch int64 [B, L], the places [R] of its learnt rows among the B · L, the teacher's final rows and those
    after each layer, all [R, D], and the tokens [C] that are learnt about; None: all."""

    batch: torch.Tensor
    places: torch.Tensor
    final: torch.Tensor
    taps: dict[int, torch.Tensor]
    classes: torch.Tensor | None = None


class Lessons:
    """layers: after which the rows are wanted too. cache_bytes: of hidden rows kept in `file`."""

    def __init__(
        self,
        teacher: Teacher,
        batches: Batches,
        layers: Sequence[int],
        file: Path,
        cache_bytes: int,
        seed: int,
    ) -> None:
        self._teacher = teacher
        self._batches = batches
        self._layers = tuple(layers)
        self._random = np.random.default_rng(seed)
        most = LOGITS_AT_ONCE * (1 if teacher.device.type == "cpu" else ON_A_GPU)
        self._frequent: NDArray[np.int64] | None = None
        classes = teacher.vocabulary_size
        if classes >= 2 * CLASSES:
            classes, self._frequent = CLASSES, batches.frequent(FREQUENT, teacher.vocabulary_size)
        self._rows = max(1, most // classes)
        self._file = file
        self._cache_bytes = cache_bytes
        self._cache: torch.Tensor | None = None
        self._kept: list[tuple[torch.Tensor, torch.Tensor]] = []
        self._newest, self._steps = -1, 0
        self._length = self._epoch = self._of_epoch = 0

    def draw(self, length: int) -> Taught:
        """Every few draws a new batch of windows of this length replaces the oldest one that is kept, until a whole
        epoch is kept."""
        if self._steps % USES_A_BATCH == 0 and not self._keeps_all(length):
            self._teach(length)
        self._steps += 1
        chosen = int(self._random.integers(len(self._kept)))
        batch, places = self._kept[chosen]
        assert self._cache is not None
        final, *taps = self._cache[chosen, :, : len(places)].to(self._teacher.device)
        taps_of = dict(zip(self._layers, taps, strict=True))
        return Taught(batch, places, final, taps_of, self._classes(batch))

    def _classes(self, batch: torch.Tensor) -> torch.Tensor | None:
        """The tokens that are learnt about this time, sorted."""
        if self._frequent is None:
            return None
        kept = np.union1d(self._frequent, batch.cpu().numpy())
        others = np.setdiff1d(np.arange(self._teacher.vocabulary_size), kept, assume_unique=True)
        others = self._random.choice(others, max(0, CLASSES - len(kept)), replace=False)
        return torch.from_numpy(np.union1d(kept, others)).to(self._teacher.device)

    def _keeps_all(self, length: int) -> bool:
        """Whether every window of this length of an epoch is kept."""
        return (
            self._cache is not None
            and length == self._length
            and len(self._cache) >= self._of_epoch >= self._batches.in_an_epoch
        )

    def _teach(self, length: int) -> None:
        ids, learnt = self._batches.next(length)
        epoch = self._batches.state()[0]
        self._of_epoch = self._of_epoch + 1 if epoch == self._epoch else 1
        self._length, self._epoch = length, epoch
        wanted = np.zeros_like(learnt)
        wanted[:, :-1] = learnt[:, 1:]  # a row foretells the token behind it
        if self._cache is None:
            self._rows = min(self._rows, ids.size)
        places = np.flatnonzero(wanted if wanted.any() else np.ones_like(wanted))
        most = min(self._rows, len(places))
        most -= most % ROWS_APART if most > ROWS_APART else 0
        if len(places) > most:
            places = self._random.choice(places, most, replace=False)
        batch, rows = torch.from_numpy(ids), torch.from_numpy(places)
        batch, rows = batch.to(self._teacher.device), rows.to(self._teacher.device)
        final, taps = self._teacher.hidden(batch, self._layers)
        hidden = torch.stack([one.flatten(0, 1)[rows] for one in (final, *(taps[x] for x in self._layers))])
        if self._cache is None:
            self._cache = self._new_cache(hidden)
        self._newest = (self._newest + 1) % len(self._cache)
        self._cache[self._newest, :, : len(rows)] = hidden.to(self._cache.device)
        self._kept[self._newest : self._newest + 1] = [(batch, rows)]

    def _new_cache(self, like: torch.Tensor) -> torch.Tensor:
        """[batches, 1 + layers, rows, D] in the file."""
        shape = (len(like), self._rows, like.shape[-1])
        size = int(np.prod(shape))
        batches = max(1, self._cache_bytes // (size * like.element_size()))
        with self._file.open("wb") as file:  # a full disk shows now, not as a fault of the mapped memory
            os.posix_fallocate(file.fileno(), 0, batches * size * like.element_size())
        flat = torch.from_file(str(self._file), shared=True, size=batches * size, dtype=like.dtype)
        return flat.view(batches, *shape)
