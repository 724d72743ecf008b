"""What a model launches is what is compiled when it is loaded, and nothing else; sizes beyond the kernels are refused,
or run without them. Launches are recorded, not run."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from kernel_backends import samplings
from test_lean_layers import checked_shortly
from test_target_batch import Text
from tiny_models import FAMILIES, SIZE, tiny

pytest.importorskip("triton")

from edgespec.core.errors import EdgespecError
from edgespec.kernels import exit_head_launch, launching, layer_launch, tree_attention_launch, verify_launch
from edgespec.kernels.data import Cells, Curves, HeadSettings, Ragged, Trees
from edgespec.kernels.exit_head_launch import HintRequest
from edgespec.kernels.model_variants import ModelSizes, variants_of
from edgespec.kernels.narrow_head import narrowed
from edgespec.kernels.variants import HEAD_WIDTHS, MOST_TOKENS, ROW_WIDTHS
from edgespec.model import backends
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.self_check import warm_up
from edgespec.model.target import Target

AT_ONCE = 3
"""Programs of exits on the stand-in for a GPU (`exit_head_launch.division_of`)."""

Launches = set[tuple[str, str]]


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Launches:
    """The variants that are launched; a launch that none serves fails."""
    found: Launches = set()

    def launch(kernel: str, programs: int, given: Any, constants: Any, device: Any) -> None:
        variant = launching._serving(kernel, launching.types_of(given), tuple(constants.items()))
        assert variant is not None, f"{kernel} is compiled while it is launched, for {constants}"
        found.add((kernel, variant.name))

    for module in (exit_head_launch, layer_launch, tree_attention_launch, verify_launch):
        monkeypatch.setattr(module, "launch", launch)
    monkeypatch.setenv("TRITON_INTERPRET", "1")  # so that Triton's backend is taken on the CPU
    monkeypatch.setattr(backends, "ATTENTION_OF_DEVICE", {"cpu": "triton"})
    checked_shortly(monkeypatch)
    return found


def run_layers(dtype: torch.dtype, sizes: ModelSizes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model's forwards of 1 to 64 rows."""
    changed = {"hidden_size": sizes.width, "head_dim": sizes.head_width, "intermediate_size": sizes.inner}
    one_layer = transformers.LlamaConfig(**{**SIZE, **changed, "num_hidden_layers": 1})
    monkeypatch.setitem(FAMILIES, "of these sizes", one_layer)
    model = LoadedModel(tiny("of these sizes", dtype), "tiny", bytes(32), float8_pool=sizes.float8_pool)
    target = Target(model, kv_memory="16MiB", native=False)
    assert target.runner.lean is not None
    warm_up(target.runner)
    with torch.inference_mode():
        for rows in (1, 3, 40):
            target.runner.logits([Text(target, rows, 1).part(rows)])


def run_exits(dtype: torch.dtype, sizes: ModelSizes) -> None:
    head = torch.empty(sizes.vocabulary, sizes.width, dtype=dtype)
    weight, scales = narrowed(head.zero_()) if sizes.narrow else (head, None)
    curves = Curves(torch.zeros(1, 9), torch.zeros(1, 9), (0.0,))
    for rows in (1, 16, 17, 40, 64):
        columns = (
            torch.zeros(rows),
            torch.zeros(rows, dtype=torch.int64),
            torch.zeros(rows, dtype=torch.int32),
        )
        whole = torch.zeros(rows, dtype=torch.int32)
        trees = Trees(torch.arange(rows + 1, dtype=torch.int32), whole, whole)
        cells = Cells(torch.zeros(2, rows, 1, 8, dtype=torch.int32), whole[:1] + 1, 0)
        for hints in (None, HintRequest(trees, curves, whole, cells)):
            hidden = torch.zeros(rows, sizes.width, dtype=dtype)
            given = hidden, torch.ones(sizes.width, dtype=dtype), weight, scales, columns
            exit_head_launch.exit_head(*given, HeadSettings(), hints)


def run_verify(dtype: torch.dtype, vocabulary: int) -> None:
    for rows, sampling in [(1, {}), (8, {"temperature": 1.0, "top_k": 9, "top_p": 0.9})]:
        biases = Ragged(
            np.arange(rows + 1, dtype=np.int32), np.zeros(rows, np.int32), np.ones(rows, np.float32)
        )
        for given in (None, biases):
            logits = torch.empty(rows, vocabulary, dtype=dtype)
            trees, positions = Trees.single_rows(rows), np.zeros(rows, np.int32)
            verify_launch.verify(logits, trees, positions, samplings([sampling] * rows), None, given)


@pytest.mark.parametrize(
    ("dtype", "vocabulary", "width", "head_width", "inner", "float8_pool"),
    [
        ("bf16", 32_000, 64, 128, 64, False),
        ("bf16", 262_208, 64, 16, 64, True),
        ("fp16", 997, 48, 12, 100, False),
        ("fp16", 997, 48, 12, 100, True),
        ("fp32", 1_000, 4_112, 256, 96, False),
    ],
)
def test_what_is_launched_is_what_was_compiled(
    dtype: str, vocabulary: int, width: int, head_width: int, inner: int, float8_pool: bool,
    launched: Launches, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    kind = next(one for one, name in launching.TYPES.items() if name == f"*{dtype}")
    sizes = ModelSizes(dtype, vocabulary, width, head_width, inner, AT_ONCE, dtype != "fp32", float8_pool)
    run_layers(kind, sizes, monkeypatch)
    run_exits(kind, sizes)
    run_verify(kind, vocabulary)
    assert launched == {(one.kernel, one.name) for one in variants_of(sizes)}


def test_a_vocabulary_that_no_kernel_holds_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "backend_on", lambda device: "triton")
    model: Any = SimpleNamespace(
        device=torch.device("cuda"), dtype=torch.bfloat16, config=None, vocabulary_size=MOST_TOKENS + 1
    )
    with pytest.raises(
        EdgespecError, match="a vocabulary of 524289 tokens is more than the GPU's kernels hold"
    ):
        backends.compile_kernels(model, narrow=True)


def test_heads_and_rows_that_no_kernel_holds_run_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backends, "ATTENTION_OF_DEVICE", {"cpu": "cpu"})
    for name, most in (("head_dim", HEAD_WIDTHS[-1]), ("hidden_size", ROW_WIDTHS[-1])):
        small = {"num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1}
        wide = transformers.LlamaConfig(**{**SIZE, **small, "intermediate_size": 8, name: most + 2})
        monkeypatch.setitem(FAMILIES, "wide", wide)
        model = LoadedModel(tiny("wide", torch.float32), "wide", bytes(32))
        runner = Target(model, kv_memory="16MiB", native=False).runner
        assert runner.lean is None and (runner.paged is None) == (name == "head_dim")
