"""A forward's inputs where a CUDA graph reads them: at fixed addresses, in one of a few fixed shapes.

Every field is a view of one buffer on the device, with a twin in host memory (pinned where there is a GPU), so that
one copy moves all of them. What a forward leaves free is padded with rows that nobody reads."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.slots import SLOT_BUCKET
from edgespec.kernels.data import Trees
from edgespec.kernels.packed import Field, PackedFields
from edgespec.model.batch import AttentionInputs, FlatRows
from edgespec.model.hints import ListenedRows
from edgespec.model.kv_cache import SCRATCH
from edgespec.model.static_attention import StaticAttention
from edgespec.model.target_engine import SessionRows

ROWS = (1, 2, 4, 8, 16, 32, 64)
MAX_ROWS = ROWS[-1]


@dataclass(frozen=True)
class Bucket:
    """The shape of a captured forward: its rows, and the slots that they see."""

    rows: int
    width: int

    @classmethod
    def of(cls, rows: int, width: int, widths: Sequence[int]) -> Bucket | None:
        """The smallest bucket, one of `widths` wide, that holds this many rows and slots; None: there is none."""
        if not 0 < rows <= MAX_ROWS or width > widths[-1]:
            return None
        return cls(ROWS[bisect_left(ROWS, rows)], widths[bisect_left(widths, width)])


@dataclass(frozen=True)
class ExitColumns:
    """What exits read of a forward's decided rows. curve_of: int32 [exits, S], the calibration curve of each session at
    each exit. sequence: the forward's number."""

    rows: ListenedRows
    curve_of: NDArray[np.int32]
    sequence: int


class StaticInputs:
    """The inputs of one bucket's forwards: tokens, positions int64 [1, R], slots int64 [R] that rows are written to,
    selected int64 [R], the rows that are decided, first; what attention is given; and the decided rows' trees: parents,
    tree_tokens int32 [R], offsets int32 [R + 1].

    For `exits` exits, of the decided rows: temperatures float32, seeds int64, next_positions int32 [R], curve_of int32
    [exits, R], sequence int32 [1].
    """

    def __init__(
        self, bucket: Bucket, attention: StaticAttention, device: torch.device, exits: int = 0
    ) -> None:
        self.bucket = bucket
        self._attention = attention
        rows = bucket.rows
        fields: dict[str, Field] = {
            "tokens": ((1, rows), torch.int64),
            "positions": ((1, rows), torch.int64),
            "slots": ((rows,), torch.int64),
            "selected": ((rows,), torch.int64),
            **attention.fields(rows, bucket.width),
            "parents": ((rows,), torch.int32),
            "tree_tokens": ((rows,), torch.int32),
            "offsets": ((rows + 1,), torch.int32),
            "temperatures": ((rows,), torch.float32),
            "seeds": ((rows,), torch.int64),
            "next_positions": ((rows,), torch.int32),
            "curve_of": ((exits, rows), torch.int32),
            "sequence": ((1,), torch.int32),
        }
        self._fields = PackedFields(fields, device)

    def __getattr__(self, name: str) -> torch.Tensor:
        """A field on the device."""
        return self._fields.device[name]

    @property
    def attention(self) -> AttentionInputs:
        return self._attention.given(self._fields.device, self.bucket.rows, self.bucket.width)

    def fill(self, batch: Sequence[SessionRows], exits: ExitColumns | None = None) -> Trees:
        """Put a batch without pictures here, of which rows are decided; returns their trees, on the device. Padding:
        rows that write to the scratch page, sessions without rows. Raises KvFull."""
        self._fields.wait()
        host, flat = self._fields.host, FlatRows.of(batch)
        count, decided = len(flat.slots), len(flat.decided)
        spare = self.bucket.rows - count
        for name, value in (("tokens", flat.tokens), ("positions", flat.positions)):
            host[name][:, :count] = torch.from_numpy(value)
            host[name][:, count:] = 0
        host["slots"][:count] = torch.from_numpy(flat.slots)
        host["slots"][count:] = torch.arange(spare) + SCRATCH * SLOT_BUCKET
        host["selected"][:decided] = torch.from_numpy(flat.decided)
        host["selected"][decided:] = 0
        self._attention.fill(host, batch, self.bucket.rows)
        trees = Trees.joined([one.tree for one in batch if len(one.decide)])
        self._put(
            {
                "parents": (trees.parents, -1),
                "tree_tokens": (trees.tokens, 0),
                "offsets": (trees.offsets, decided),
            }
        )
        if exits is not None:
            self._fill_exits(exits)
        self._fields.upload()
        return Trees(self.offsets[: trees.sessions + 1], self.parents[:decided], self.tree_tokens[:decided])

    def _fill_exits(self, exits: ExitColumns) -> None:
        rows = exits.rows
        self._put(
            {
                "temperatures": (rows.temperatures, 0),
                "seeds": (rows.seeds.view(np.int64), 0),
                "next_positions": (rows.positions, 0),
                "curve_of": (exits.curve_of, 0),
            }
        )
        self._fields.host["sequence"][0] = exits.sequence

    def _put(self, columns: Mapping[str, tuple[NDArray[Any], int]]) -> None:
        """Values, and what the rest of their field holds."""
        for name, (values, beyond) in columns.items():
            field = self._fields.host[name]
            field[..., : values.shape[-1]] = torch.from_numpy(values)
            field[..., values.shape[-1] :] = beyond
