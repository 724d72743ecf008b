"""Forwards by graphs, with graphs that run their function again on the same buffers: what is eager beside them, bit for
bit where shapes allow it. In float64, on the CPU; what only a GPU has is in tests/test_gpu.py."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_target_batch import Text, assert_same
from tiny_models import FAMILIES, save, tiny

from edgespec.core.slots import SLOT_BUCKET
from edgespec.kernels.data import Trees
from edgespec.kernels.packed import PackedFields
from edgespec.kernels.verify import verify
from edgespec.model import sampling
from edgespec.model.static_attention import UNWRITTEN, StaticMasks
from edgespec.model.static_inputs import ROWS, Bucket
from edgespec.model.target import Target
from edgespec.model.target_engine import ForwardRequest


class Rerun:
    """A capture whose graphs run the function again, into the same output, as a graph does."""

    def __init__(self) -> None:
        self.captured = 0
        self.replays = 0

    def __call__(self, function: Callable[[], torch.Tensor]) -> tuple[Callable[[], None], torch.Tensor]:
        self.captured += 1
        output = function().clone()

        def replay() -> None:
            self.replays += 1
            output.copy_(function())

        return replay, output


def load(folder: Path, family: str = "llama", dtype: str = "float64") -> Target:
    return Target.load(save(tiny(family), folder), dtype=dtype, kv_memory="64MiB")


def forwards(target: Target) -> list[list[ForwardRequest]]:
    """Three prefills, in forwards too wide for a bucket or not; then their trees, together and alone."""
    shapes = [(5, 3), (70, 0), (21, 12)]
    texts = [Text(target, length, seed) for seed, (length, _) in enumerate(shapes)]
    prefill = [text.part(length - 3) for text, (length, _) in zip(texts, shapes, strict=True)]
    verify = [text.part(length, nodes) for text, (length, nodes) in zip(texts, shapes, strict=True)]
    return [prefill[:1], prefill[1:], verify[:2], verify[2:]]


@pytest.mark.parametrize("family", FAMILIES)
def test_graphs_decide_what_eager_forwards_decide(family: str, tmp_path: Path) -> None:
    target = load(tmp_path, family)
    eager = [decided for parts in forwards(target) for decided in target.forward_batch(parts)]
    graphs = Rerun()
    target.use_graphs(graphs)
    graphed = [decided for parts in forwards(target) for decided in target.forward_batch(parts)]
    assert graphs.replays == 3  # the prefill of 67 and 18 rows is beyond the buckets
    for left, right in zip(graphed, eager, strict=True):
        assert_same(left, right)


def test_the_copy_of_the_inputs_brings_the_trees_that_verify_walks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = load(tmp_path, dtype="float32")
    target.use_graphs(Rerun())
    placed_columns: list[list[list[int]]] = []
    depths: list[int] = []

    def columns(trees: Trees) -> list[list[int]]:
        return [column.tolist() for column in (trees.offsets, trees.parents, trees.tokens)]

    def watched(logits: torch.Tensor, trees: Trees, *given: Any, placed: Trees | None, **named: Any) -> Any:
        depths.append(int(trees.parents.max()))
        if placed is not None:
            placed_columns.append(columns(placed))
            assert placed_columns[-1] == columns(trees)
        return verify(logits, trees, *given, placed=placed, **named)

    monkeypatch.setattr(sampling, "verify", watched)
    uploads: list[int] = []
    upload = PackedFields.upload
    monkeypatch.setattr(PackedFields, "upload", lambda fields: uploads.append(1) or upload(fields))
    for parts in forwards(target):
        target.forward_batch(parts)
    assert len(placed_columns) == len(uploads) == 3  # one forward is beyond the buckets
    assert max(depths) > 2


def test_a_bucket_is_captured_once(tmp_path: Path) -> None:
    target = load(tmp_path)
    graphs = Rerun()
    target.use_graphs(graphs)
    text = Text(target, 40, 1)
    for length in range(5, 12):
        target.forward_batch([text.part(length)])
    assert (graphs.captured, graphs.replays) == (2, 7)  # five rows, then one at a time


def test_rows_that_fill_up_write_to_the_scratch_page_alone_and_are_seen_by_nobody(tmp_path: Path) -> None:
    target = load(tmp_path)
    target.use_graphs(Rerun())
    text = Text(target, 9, 1)
    target.forward_batch([text.part(6)])
    before = [
        layer.keys.view(torch.int64).clone() for layer in target.pool.pool_layers
    ]  # untaken pages hold anything
    for layer in target.pool.pool_layers:  # whatever earlier rows left there
        layer.keys[:, :, : SLOT_BUCKET - 1] = 7
        layer.values[:, :, : SLOT_BUCKET - 1] = 7
    part = text.part(9)
    (decided,) = target.forward_batch([part])
    for layer, old in zip(target.pool.pool_layers, before, strict=True):
        changed = torch.nonzero((layer.keys.view(torch.int64) != old).any(dim=(0, 1, 3)))[:, 0]
        assert set(changed.tolist()) <= {
            *range(SLOT_BUCKET - 1),
            *part.cache.pool_slots(part.piece.slots).tolist(),
        }
        assert not layer.keys[:, :, UNWRITTEN].any()
    fresh = load(tmp_path)
    again = Text(fresh, 9, 1)
    fresh.forward_batch([again.part(6)])
    assert_same(decided, fresh.forward_batch([again.part(9)])[0])


def test_a_capture_that_fails_leaves_the_target_eager_and_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = load(tmp_path)
    eager = [decided for parts in forwards(target) for decided in target.forward_batch(parts)]

    def fail(function: Callable[[], torch.Tensor]) -> Any:
        function()
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    target.use_graphs(fail)
    with caplog.at_level(logging.WARNING):
        after = [decided for parts in forwards(target) for decided in target.forward_batch(parts)]
    assert [record.getMessage() for record in caplog.records] == [
        "the target runs without CUDA graphs, because a capture failed: "
        "CUDA error: operation not permitted when stream is capturing"
    ]
    for left, right in zip(after, eager, strict=True):
        assert_same(left, right)


def test_a_forward_that_decides_nothing_is_eager(tmp_path: Path) -> None:
    target = load(tmp_path)
    graphs = Rerun()
    target.use_graphs(graphs)
    part = Text(target, 9, 1).part(6)
    (decided,) = target.forward_batch(
        [ForwardRequest(part.cache, part.piece, np.zeros(0, int), part.sampling, 0)]
    )
    assert graphs.captured == 0 and len(decided.tokens) == 0


@pytest.mark.parametrize(
    ("rows", "width", "bucket"),
    [
        (1, 64, (1, 256)),
        (3, 257, (4, 512)),
        (64, 8192, (64, 8192)),
        (65, 64, None),
        (1, 8256, None),
        (0, 64, None),
    ],
)
def test_the_smallest_bucket_that_holds_a_batch(
    rows: int, width: int, bucket: tuple[int, int] | None
) -> None:
    assert Bucket.of(rows, width, StaticMasks.widths) == (bucket and Bucket(*bucket))


def test_rows_that_fill_up_have_room_on_the_scratch_page() -> None:
    assert max(big - small for small, big in zip((0, *ROWS), ROWS, strict=False)) < SLOT_BUCKET
    assert all(width % SLOT_BUCKET == 0 for width in StaticMasks.widths)


def test_one_copy_moves_all_fields() -> None:
    fields = PackedFields(
        {"one": ((3,), torch.int64), "two": ((2, 5), torch.bfloat16), "three": ((1,), torch.int32)},
        torch.device("cpu"),
    )
    for value, twin in enumerate(fields.host.values()):
        twin.fill_(value + 1)
    fields.upload()
    assert [field.float().unique().tolist() for field in fields.device.values()] == [[1], [2], [3]]
