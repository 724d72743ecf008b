"""What attention is given in a captured forward, at fixed addresses: masks and gathered slots, or plans over pages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import torch

from edgespec.core.slots import SLOT_BUCKET
from edgespec.kernels.attention_plan import AttentionPlan
from edgespec.kernels.packed import Field
from edgespec.model.attention import SessionLayout, SessionSpan
from edgespec.model.batch import AttentionInputs, masked
from edgespec.model.kv_cache import SCRATCH
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.paged_attention import PagedAttention, PagedLayout
from edgespec.model.target_engine import SessionRows

UNWRITTEN = SCRATCH * SLOT_BUCKET + SLOT_BUCKET - 1
"""A slot that no row is ever written to: it pads the slots that are read."""

Views = Mapping[str, torch.Tensor]

HOST = torch.device("cpu")


class StaticAttention(Protocol):
    """One form. widths: the slots of all sessions together that a bucket holds."""

    @property
    def widths(self) -> tuple[int, ...]: ...

    def fields(self, rows: int, width: int) -> dict[str, Field]:
        """Of a bucket."""

    def fill(self, host: Views, batch: Sequence[SessionRows], rows: int) -> None:
        """Put a batch, whose pages are taken, into a bucket of `rows` rows. Padding sees one slot and is seen by
        nobody."""

    def given(self, device: Views, rows: int, width: int) -> AttentionInputs:
        """What the layers read of a bucket."""


class StaticMasks:
    """Dense masks over the gathered slots of all sessions."""

    widths = (256, 512, 1024, 2048, 4096, 8192)

    def __init__(self, model: LoadedModel) -> None:
        self._model = model
        self._kinds = {kind: f"mask {window}" for kind, window in model.windows.by_layer_type.items()}

    def fields(self, rows: int, width: int) -> dict[str, Field]:
        masks = {name: ((1, 1, rows, width), self._model.dtype) for name in self._kinds.values()}
        return {"seen": ((width,), torch.int64), **masks}

    def fill(self, host: Views, batch: Sequence[SessionRows], rows: int) -> None:
        given = masked(batch, self._model, HOST, apart=False)
        assert given.seen is not None
        width = len(given.seen)
        host["seen"][:width] = given.seen
        host["seen"][width:] = UNWRITTEN
        for kind, name in self._kinds.items():
            mask, own = host[name], given.masks[kind] if isinstance(given.masks, dict) else given.masks
            count = own.shape[2]
            mask.fill_(torch.finfo(mask.dtype).min)
            mask[..., count:, 0] = 0
            mask[..., :count, :width] = own

    def given(self, device: Views, rows: int, width: int) -> AttentionInputs:
        masks = {kind: device[name] for kind, name in self._kinds.items()}
        seen = device["seen"]
        return AttentionInputs(
            seen,
            masks if len(masks) > 1 else next(iter(masks.values())),
            SessionLayout([SessionSpan(0, rows, width, 0, seen)]),
        )


class StaticPlans:
    """Plans over pages: of one width, since only what a plan says is read."""

    widths = (32768,)

    def __init__(self, model: LoadedModel, paged: PagedAttention) -> None:
        self._paged = paged
        self._of_layers = (
            model.windows
        )  # read once: asking the config takes a tenth of the host's time for a forward
        self._windows = sorted(set(self._of_layers.by_layer_type.values()), key=str)

    def fields(self, rows: int, width: int) -> dict[str, Field]:
        groups, pages = self._paged.groups, width // SLOT_BUCKET
        tiles = groups.most_tiles(rows, groups.tile_queries(rows))
        fields: dict[str, Field] = {"pages": ((pages + 1,), torch.int32)}
        for window in self._windows:
            fields[f"words {window}"] = ((rows, pages * SLOT_BUCKET // 32), torch.int32)
            fields[f"items {window}"] = ((groups.most_items(tiles), 5), torch.int32)
            fields[f"tiles {window}"] = ((tiles, 4), torch.int32)
            fields[f"counts {window}"] = ((2,), torch.int32)
        return fields

    def fill(self, host: Views, batch: Sequence[SessionRows], rows: int) -> None:
        tile_queries = self._paged.groups.tile_queries(rows)
        spare = rows - sum(len(one.piece) for one in batch)
        plans = self._paged.plans(batch, self._of_layers, None, spare, tile_queries)
        for window, plan in plans.items():
            host["pages"][: len(plan.pages)] = torch.from_numpy(plan.pages)
            host[f"words {window}"][:, : plan.words.shape[1]] = torch.from_numpy(plan.words)
            for name in ("items", "tiles", "counts"):
                values = getattr(plan, name)
                host[f"{name} {window}"][: len(values)] = torch.from_numpy(values)

    def given(self, device: Views, rows: int, width: int) -> AttentionInputs:
        tile_queries = self._paged.groups.tile_queries(rows)

        def plan(window: int | None) -> AttentionPlan:
            words, items, tiles, counts = (
                device[f"{name} {window}"] for name in ("words", "items", "tiles", "counts")
            )
            return AttentionPlan(device["pages"], words, items, tiles, counts, tile_queries)

        plans = {window: plan(window) for window in self._windows}
        layout, masks = PagedLayout.of(plans, self._of_layers, self._paged)
        return AttentionInputs(None, masks, layout)
