"""tree_attention in every backend beside its reference, and its reference beside attention written out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS
from tree_attention_cases import CASES, inputs_of, plan_of

from edgespec.core.errors import EdgespecError
from edgespec.kernels.attention_plan import (
    ENOUGH_JOBS,
    LEAST_PAGES,
    PAGE,
    AttentionPlan,
    HeadGroups,
    SessionPages,
)
from edgespec.kernels.tree_attention import tree_attention

TOLERANCE = {"float32": 2e-6, "float16": 2e-3, "bfloat16": 2e-2, "float64": 1e-14}


def written_out(sessions: list[SessionPages], given: dict[str, Any]) -> torch.Tensor:
    """[R, H, v] in float64: each session's slots gathered, a softmax over them, no pages, bits or plan."""
    query, keys, values = (given[name].double() for name in ("query", "keys", "values"))
    share, first, parts = query.shape[1] // keys.shape[0], 0, []
    for one in sessions:
        rows, width = one.seen.shape
        slots = torch.from_numpy(
            (np.asarray(one.pages)[:, None] * PAGE + np.arange(PAGE)).reshape(-1)[:width]
        )
        own = query[first : first + rows].transpose(0, 1)
        k, v = (pool[:, slots].repeat_interleave(share, 0) for pool in (keys, values))
        scores = own @ k.transpose(1, 2) * given["scale"]
        if given["softcap"]:
            scores = given["softcap"] * torch.tanh(scores / given["softcap"])
        weights = scores.masked_fill(torch.from_numpy(~one.seen), -torch.inf)
        if given["sinks"] is not None:
            sinks = given["sinks"].double()[:, None, None].expand(-1, rows, 1)
            weights = torch.cat([weights, sinks], -1)
        parts.append((torch.softmax(weights, -1)[..., :width] @ v).transpose(0, 1))
        first += rows
    return torch.cat(parts)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", CASES)
def test_every_backend_reads_what_the_reference_reads(name: str, backend: str) -> None:
    sessions, given = inputs_of(CASES[name])
    plan = plan_of(CASES[name], sessions)
    want = torch.as_tensor(tree_attention(**given, plan=plan, backend="reference"))
    got = tree_attention(**given, plan=plan, backend=backend)
    assert got.dtype == given["query"].dtype
    tolerance = TOLERANCE[CASES[name].dtype]
    torch.testing.assert_close(got.to(want.dtype), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_the_reference_is_attention_written_out(name: str) -> None:
    sessions, given = inputs_of(replace(CASES[name], dtype="float64"))
    got = tree_attention(**given, plan=plan_of(CASES[name], sessions), backend="reference")
    torch.testing.assert_close(torch.as_tensor(got), written_out(sessions, given), rtol=0, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
def test_longer_arrays_than_the_counts_say_change_no_bit(backend: str) -> None:
    """As in a captured forward, whose arrays are as long as its bucket."""
    shape = CASES["trees of several sessions"]
    sessions, given = inputs_of(shape)
    plan = plan_of(shape, sessions)
    longer = replace(
        plan,
        **{
            name: torch.cat([getattr(plan, name), torch.full_like(getattr(plan, name), 10**6)])
            for name in ("pages", "items", "tiles")
        },
        words=torch.nn.functional.pad(plan.words, (0, 6), value=-1),
    )
    got, want = (tree_attention(**given, plan=one, backend=backend) for one in (longer, plan))
    assert torch.equal(got, want)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_session_gets_the_same_bits_beside_others(backend: str) -> None:
    """As long as all of them together make too few jobs for longer items."""
    shape = CASES["trees of several sessions"]
    sessions, given = inputs_of(shape)
    together = tree_attention(**given, plan=plan_of(shape, sessions), backend=backend)
    alone = tree_attention(
        **{**given, "query": given["query"][3:4].contiguous()},
        plan=plan_of(shape, sessions[1:2]),
        backend=backend,
    )
    assert torch.equal(together[3:4], alone)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_row_that_sees_nothing_reads_zeros(backend: str) -> None:
    sessions, given = inputs_of(CASES["one row"])
    nothing = [SessionPages(sessions[0].pages, np.zeros_like(sessions[0].seen))]
    got = tree_attention(**given, plan=plan_of(CASES["one row"], nothing), backend=backend)
    assert not got.any()


# The plan


def plan(rows: int, pages: int, share: int = 4, kv_heads: int = 8) -> AttentionPlan:
    seen = np.ones((rows, pages * PAGE), np.bool_)
    return AttentionPlan.of([SessionPages(range(pages), seen)], HeadGroups(share, kv_heads))


def test_pages_are_split_until_a_gpu_is_busy() -> None:
    assert len(plan(8, 1).items) == 1
    assert len(plan(8, 8).items) == 8 / LEAST_PAGES
    assert len(plan(8, 1000).items) * 8 <= ENOUGH_JOBS
    assert len(plan(8, 1000, kv_heads=1).items) > 8 * len(plan(8, 1000).items) / 2
    assert len(plan(4096, 100).items) == 4096 * 4 / 64  # the rows alone keep it busy


def test_items_cover_each_tiles_pages_once_and_in_order() -> None:
    for found in (plan(8, 45), plan(100, 17, kv_heads=1), plan(3, 1000, share=1)):
        for first, end, first_item, splits in found.tiles.tolist():
            own = found.items[first_item : first_item + splits]
            assert set(own[:, 0]) == {first} and set(own[:, 1]) == {end}
            read = [page for item in own for page in range(item[2], item[2] + item[3])]
            assert read == list(range(len(found.pages)))


def test_pages_that_no_row_of_a_tile_sees_are_not_read() -> None:
    seen = np.zeros((3, 1024), np.bool_)
    seen[:, 640:710] = True
    found = AttentionPlan.of([SessionPages(range(16), seen)], HeadGroups(1, 2))
    assert found.items[:, 2:].tolist() == [[10, 2, 10]]


def test_tiles_hold_the_queries_of_a_session_up_to_what_fits() -> None:
    assert HeadGroups.of(32, 8, itemsize=2) == HeadGroups(4, 8, 64)
    assert HeadGroups.of(8, 4, itemsize=4) == HeadGroups(2, 4, 32)
    assert HeadGroups(4, 8).tile_queries(1) == 16
    assert HeadGroups(7, 4).tile_queries(8) == 64
    assert HeadGroups(4, 8, 32).tile_queries(500) == 32


@pytest.mark.parametrize("rows", [1, 7, 64])
@pytest.mark.parametrize(("share", "kv_heads"), [(1, 32), (3, 2), (7, 4), (71, 1)])
def test_a_bucket_has_room_for_every_plan(rows: int, share: int, kv_heads: int) -> None:
    random, heads = np.random.default_rng(rows), HeadGroups(share, kv_heads)
    for sessions in {1, min(3, rows), rows}:
        cuts = np.sort(random.choice(np.arange(1, rows), sessions - 1, replace=False)) if rows > 1 else []
        sizes = np.diff([0, *cuts, rows])
        found = AttentionPlan.of(
            [SessionPages(range(20), np.ones((size, 20 * PAGE), np.bool_)) for size in sizes],
            heads,
            tile_queries=16,
        )
        tiles = heads.most_tiles(rows, 16)
        assert len(found.tiles) <= tiles and len(found.items) <= heads.most_items(tiles)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query": torch.zeros(1, 3, 16)}, "query heads must be a multiple of 2, not 3"),
        ({"keys": torch.zeros(2, 192, 15)}, "keys must be"),
        ({"values": torch.zeros(2, 64, 16)}, "values must be"),
        ({"sinks": torch.zeros(3)}, "sinks must be"),
        ({"query": torch.zeros(2, 4, 16)}, r"words must be \[2, W\]"),
        ({"query": torch.zeros(1, 4, 16, dtype=torch.int32)}, "query must be float32"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    sessions, given = inputs_of(CASES["one row"])
    with pytest.raises(EdgespecError, match=message):
        tree_attention(**{**given, **change}, plan=plan_of(CASES["one row"], sessions))
