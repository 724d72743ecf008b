"""The steps of `edgespec gpu-check`: what they refuse, what they time, and that it is what is served."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from test_cuda_graphs import Rerun

from edgespec.core.errors import EdgespecError
from edgespec.kernels import exit_head_launch
from edgespec.kernels.data import HeadSettings
from edgespec.kernels.narrow_pool import FLOAT8
from edgespec.model import backends
from edgespec.model.gpu_check import agreement, attention_steps, forward_steps, kernel_steps, place
from edgespec.model.gpu_check.forward_steps import texts_agree
from edgespec.model.gpu_check.graph_steps import NodeCounter, Operators
from edgespec.model.gpu_check.inputs import columns, columns_on
from edgespec.model.gpu_check.models import target_of
from edgespec.model.gpu_check.place import WARM_UPS, Place
from edgespec.model.paged_attention import PAGED_ATTENTION
from edgespec.model.target import Target

HERE = Place.on(torch.device("cpu"))
THERE = replace(HERE, device=torch.device("meta"))
"""A stand-in for a GPU, which holds no numbers."""


@pytest.mark.parametrize("name", ["tree_attention", "rotary_write", "gated", "residual_norm"])
def test_a_kernel_that_computes_something_else_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    right, asked = getattr(agreement, name), []

    def wrong(*given: Any, **how: Any) -> Any:
        asked.append(how["backend"])
        found = right(*given, **how)
        if how["backend"] == "reference" or (name == "rotary_write" and len(asked) % 2):
            return found  # what it is compared with
        return [one + 0.1 for one in found] if isinstance(found, tuple) else found + 0.1

    monkeypatch.setattr(agreement, name, wrong)
    with pytest.raises(EdgespecError, match=rf"{name}.* in float32 is .* from the reference"):
        list(agreement.kernels_agree(HERE))


def test_a_pool_that_is_rounded_otherwise_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = agreement.rotary_write

    def truncating(*given: Any, **how: Any) -> Any:
        found = right(*given, **how)
        for pool in given[4:]:
            if pool.dtype == FLOAT8:
                pool.view(torch.uint8)[0, 3] -= 1
        return found

    monkeypatch.setattr(agreement, "rotary_write", truncating)
    with pytest.raises(EdgespecError, match="otherwise than to the nearest 8-bit float"):
        list(agreement.kernels_agree(HERE))


@pytest.mark.parametrize(("capability", "reads"), [((8, 6), False), ((8, 9), True), ((9, 0), True)])
def test_8_bit_pools_are_checked_where_a_gpu_reads_them(
    capability: tuple[int, int], reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert replace(HERE, device=torch.device("cuda")).reads_float8 == reads


@pytest.mark.parametrize("narrow", [False, True])
def test_an_exit_that_guesses_something_else_is_named(narrow: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    right, wanted = agreement.exit_head, []

    def wrong(*given: Any, **how: Any) -> Any:
        found = right(*given, **how)
        wanted.append(found)
        if ("scales" in how) == narrow and len(wanted) % 2 == 0:
            return SimpleNamespace(tokens=np.asarray(found.tokens) + 1, margins=found.margins)
        return found

    monkeypatch.setattr(agreement, "exit_head", wrong)
    what = "exit_head of 8 bits" if narrow else "exit_head"
    with pytest.raises(EdgespecError, match=rf"^{what}, \d rows: rows \[0.*\] decide other tokens"):
        list(agreement.kernels_agree(HERE))


@pytest.mark.parametrize("early", [0, 3])
def test_hints_must_come_before_their_verdicts(early: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(**given: Any) -> Target:
        target = own(**given)
        target.use_graphs(Rerun())
        return target

    own = Target.load
    monkeypatch.setattr(forward_steps.Target, "load", load)
    monkeypatch.setattr(forward_steps.Watcher, "_read", lambda watcher, sequence: None)
    step = texts_agree(HERE)
    if not early:
        with pytest.raises(EdgespecError, match="no hint was there before its verdict"):
            list(step)
        return
    arm = forward_steps.Watcher.arm

    def seeing(watcher: Any, sequence: int, watches: Any) -> None:
        arm(watcher, sequence, watches)
        watcher.early = early

    monkeypatch.setattr(forward_steps.Watcher, "arm", seeing)
    assert list(step)[-1] == {"what": "hints before verdicts", "early": early}


def test_forwards_that_are_timed_attend_as_served_ones_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(backends.ATTENTION_OF_DEVICE, "cpu", "cpu")
    timed = target_of(HERE.shapes[0], HERE, exit_bits=8)
    served = Target.load(dtype="float32", device="cpu")
    for one in (timed, served):
        assert one.model.config._attn_implementation == PAGED_ATTENTION
        assert one.runner.paged is not None and one.runner.lean is not None and one.exits is not None
    assert timed.runner.paged.backend == served.runner.paged.backend  # type: ignore[union-attr]


def test_what_is_captured_takes_no_pinned_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A capture may not."""

    def pin_memory(tensor: torch.Tensor) -> torch.Tensor:
        raise AssertionError("pinned memory in a capture")

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin_memory)
    monkeypatch.setattr(exit_head_launch, "launch", lambda *_: None)
    rows = [torch.empty(size, device=THERE.device) for size in ((8, 64), (64,), (320, 64))]
    exit_head_launch.exit_head(*rows, None, [*columns_on(THERE, 8).values()], HeadSettings())
    with pytest.raises(AssertionError, match="pinned memory in a capture"):
        exit_head_launch.exit_head(*rows, None, [*columns(8).values()], HeadSettings())


def test_torch_compiles_each_size_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behind its eighth function it would run eagerly."""
    done: list[str] = []

    def compiled(function: Any, **given: Any) -> Any:
        done.append("compile")
        return function

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(torch.compiler, "reset", lambda: done.append("reset"))
    rows = list(kernel_steps.compiled_times(HERE))
    assert done == ["reset", "compile"] * len(HERE.vocabularies) and len(rows) == len(HERE.vocabularies)


def test_a_timed_function_is_repeated_for_so_long_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[float] = []

    def measured() -> float:
        calls.append(float(len(calls)))
        return calls[-1]

    monkeypatch.setattr(place, "LONGEST_S", 0.0)
    assert replace(HERE, runs=10**9).median_of(measured) == WARM_UPS
    assert len(calls) == WARM_UPS + 1


def test_operators_are_counted_without_views_and_empty_memory() -> None:
    with Operators() as operators:
        torch.empty(4).new_empty(2)
        (torch.ones(4) + 1).view(2, 2).t()
    assert operators.count == 2
    counter = NodeCounter(torch.device("cpu"))
    counter(lambda: torch.ones(3) * 2)
    assert counter.nodes == 2


class Wrapper:
    """FlashInfer's wrapper, written out in torch."""

    def __init__(self, workspace: torch.Tensor, layout: str, backend: str) -> None:
        assert layout == "HND" and backend == "fa2" and workspace.dtype == torch.uint8

    def plan(
        self, rows: Any, pages: Any, indices: Any, last: Any, heads: int, kv_heads: int, width: int, page: int,
        custom_mask: torch.Tensor, q_data_type: torch.dtype,
    ) -> None:  # fmt: skip
        assert rows[-1] * (len(indices) - 1) * page + rows[-1] * last[0] == len(custom_mask)
        self._indices, self._share = indices.long(), heads // kv_heads
        self._mask = custom_mask.view(int(rows[-1]), -1)

    def run(self, query: torch.Tensor, pool: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        keys, values = (
            one[self._indices].transpose(0, 1).flatten(1, 2).repeat_interleave(self._share, 0) for one in pool
        )
        read = torch.nn.functional.scaled_dot_product_attention(
            query.transpose(0, 1), keys, values, self._mask
        )
        return read.transpose(0, 1)


def test_flashinfer_is_asked_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(
        sys.modules, "flashinfer", SimpleNamespace(BatchPrefillWithPagedKVCacheWrapper=Wrapper)
    )
    shape = HERE.shapes[0]
    rows = attention_steps._rows(HERE, shape, 8, 192)
    own, other = attention_steps._own(HERE, shape, *rows)(), attention_steps._flashinfer(*rows)()
    torch.testing.assert_close(own, other)
