"""The target's sampling and exits in the backend that its device runs: Triton's say what the native ones say.

Triton's run in its interpreter, on the CPU, chosen by the same table that chooses them on a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS, INTERPRETED
from test_target_exits import exit_heads, guesses_of
from tiny_models import save, tiny

from edgespec.core.decided_tree import DecidedTree
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.row_constraints import RowConstraints
from edgespec.kernels import arguments, launching
from edgespec.model import backends
from edgespec.model import target as target_module
from edgespec.model.sampling import Rows, decide_together
from edgespec.model.target import Target

PARTS = [
    Rows(SamplingParams(temperature=0.8, top_k=20, top_p=0.95), 7, [10, 11, 12], DecidedTree.chain([3, 5])),
    Rows(SamplingParams(), 0, [4], DecidedTree.chain([])),
    Rows(
        SamplingParams(temperature=1.2, min_p=0.02, repetition_penalty=1.3, logit_bias={5: 2.0}),
        9,
        [90, 91],
        DecidedTree.chain([7]),
        RowConstraints(seen=[np.array([1, 2, 5], np.int32), np.array([3], np.int32)]),
    ),
]


@pytest.fixture
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Whatever is on the CPU runs in this backend."""
    monkeypatch.setitem(backends.BACKEND_OF_DEVICE, "cpu", request.param)
    return request.param  # type: ignore[no-any-return]


def test_devices_have_backends() -> None:
    assert backends.backend_on(torch.device("cpu")) == "cpu"
    assert backends.backend_on(torch.device("meta")) is None


def test_work_goes_to_the_gpu_that_was_chosen_and_never_to_cudnns_attention(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    entered: list[object] = []
    flags: list[bool] = []
    monkeypatch.setattr(torch.cuda, "device", lambda device: entered.append(device) or nullcontext())
    monkeypatch.setattr(torch.backends.cuda, "enable_cudnn_sdp", flags.append)
    chosen = torch.device("cuda:1")
    with backends.working_on(chosen), backends.working_on(torch.device("cpu")):
        assert entered == [chosen] and flags == [False]
    target = Target.load(save(tiny("llama"), tmp_path), dtype="float32")
    inside: list[bool] = []

    @contextmanager
    def working_on(device: torch.device) -> Iterator[None]:
        inside.append(True)
        yield
        inside.append(False)

    monkeypatch.setattr(target_module, "working_on", working_on)
    monkeypatch.setattr(target, "_decide", lambda requests, layers: inside.append("forward"))
    target.forward_batch([])
    assert inside == [True, "forward", False]


def test_a_gpu_compiles_what_its_model_launches_before_anybody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[tuple[str, list[Any]]] = []

    class Source:
        def __init__(self, kernel: str) -> None:
            self.kernel = kernel

        def warmup(self, *given: Any, grid: tuple[int], **constants: Any) -> None:
            compiled.append((self.kernel, list(given)))

    monkeypatch.setattr(backends, "backend_on", lambda device: "triton")
    monkeypatch.setattr(launching, "just_in_time", lambda: True)
    monkeypatch.setattr(launching, "source_of", Source)
    there = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: there)
    given: Any = SimpleNamespace(
        device=torch.device("cpu"), dtype=torch.bfloat16, config=tiny("llama").config, vocabulary_size=32000,
        float8_pool=False,
    )  # fmt: skip
    backends.compile_kernels(given, narrow=True)
    assert compiled == []
    given.device = torch.device("cuda")
    backends.compile_kernels(given, narrow=True)
    kernels = [kernel for kernel, _ in compiled]
    counts = {
        "verify_scan": 2,
        "verify_round": 8,
        "verify_choose": 1,
        "exit_head_rows": 1,
        "exit_head_parts": 3,
    }
    assert {kernel: kernels.count(kernel) for kernel in counts} == counts
    assert all(torch.float16 not in given for _, given in compiled)
    assert all(given[1] == torch.int8 for kernel, given in compiled if kernel == "exit_head_parts")
    rows = next(given for kernel, given in compiled if kernel == "exit_head_rows")
    assert rows == [torch.bfloat16] * 3 + [16, 3.0]


@pytest.mark.parametrize(("problem", "backend"), [(None, "triton"), ("no Triton here", None)])
def test_a_gpu_has_a_backend_where_kernels_can_be_launched(
    problem: str | None,
    backend: str | None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(launching, "problem_on", lambda index: problem)
    backends._launches.cache_clear()
    assert backends.backend_on(torch.device("cuda")) == backend
    assert (problem or "") in caplog.text
    backends._launches.cache_clear()


@pytest.mark.parametrize("backend", [None, *BACKENDS], indirect=True)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_sampling_decides_what_the_reference_decides(
    backend: str | None, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = 3 * torch.randn(6, 97, generator=torch.Generator().manual_seed(2)).to(dtype)
    got = decide_together(logits, PARTS)
    monkeypatch.setitem(backends.BACKEND_OF_DEVICE, "cpu", "reference")
    for part, want in zip(got, decide_together(logits, PARTS), strict=True):
        assert part.tokens.tolist() == want.tokens.tolist()
        assert part.path.tolist() == want.path.tolist()
        np.testing.assert_allclose(part.logprobs, want.logprobs, atol=1e-4)
        np.testing.assert_allclose(part.margins, want.margins, atol=1e-4)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
def test_logits_that_are_no_numbers_are_refused(backend: str) -> None:
    logits = torch.randn(6, 97)
    logits[3, 5] = float("nan")
    with pytest.raises(EdgespecError, match="NaN or infinite"):
        decide_together(logits, PARTS)


@pytest.mark.parametrize("backend", BACKENDS, indirect=True)
@pytest.mark.parametrize("family", ["gemma2"] if INTERPRETED else ["granite", "gemma2"])
def test_exits_guess_and_hint_alike(backend: str, family: str, tmp_path: Path) -> None:
    """Families without a native decoder, which has the LM head to itself."""
    folder = save(tiny(family), tmp_path)
    exit_heads(folder / "exits", folder)
    target = Target.load(folder, dtype="float32")
    assert target.exits.guesses is not None and target.exits.guesses.pay(12) and target.runner.decoder is None
    by_kernel = guesses_of(target, 6)
    target.exits.guesses = None
    for got, want in zip(by_kernel, guesses_of(target, 6), strict=True):
        sure = want.margins > 1e-3
        assert got.layer == want.layer and (got.tokens[sure] == want.tokens[sure]).all()
        np.testing.assert_allclose(got.margins[sure], want.margins[sure], atol=1e-3)
        assert (got.guess.path, got.guess.token) == (want.guess.path, want.guess.token) or not sure.all()


def test_what_goes_to_a_gpu_goes_by_pinned_memory_and_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pinned: list[torch.Tensor] = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: pinned.append(tensor) or tensor)
    there = torch.device("meta")  # stands in for a GPU: what is there holds no numbers
    seeds = arguments.on_device(np.array([2**64 - 1], np.uint64), there, torch.int64)
    assert seeds.device == there and seeds.dtype == torch.int64 and pinned[0].tolist() == [-1]
    arguments.on_device(torch.ones(2), there, torch.float64)
    assert pinned[1].dtype == torch.float64
    arguments.on_device(seeds, there, torch.int64)
    arguments.on_device(np.ones(2), torch.device("cpu"), torch.float32)
    assert len(pinned) == 2
