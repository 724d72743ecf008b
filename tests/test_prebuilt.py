"""Where Triton cannot compile, the prebuilt variants serve the launches that the backend makes, with equal results.

A stand-in chooses the variant as binaries.py does, and runs the kernel in Triton's interpreter with its constants.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS, same_samplings
from numpy.typing import NDArray
from test_exit_head import case
from test_exit_hint import inputs, written
from tree_attention_cases import CASES, inputs_of, plan_of

from edgespec.kernels import exit_head_launch, launching, tree_attention_launch, verify_launch
from edgespec.kernels.data import Ragged, Trees
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.tree_attention import tree_attention
from edgespec.kernels.variants import KERNELS, VARIANTS
from edgespec.kernels.verify import verify

TRITON = BACKENDS[1:]


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of the variants that were launched."""
    names: list[str] = []

    def launch(kernel: str, programs: int, arguments: Any, constants: Any, device: torch.device) -> None:
        types = launching.types_of(arguments)
        variant = next(one for one in VARIANTS if one.serves(kernel, types, constants))
        names.append(f"{kernel} {variant.name}")
        launching.source_of(kernel)[(programs,)](*arguments, **KERNELS[kernel].constants, **variant.constants)

    for module in (exit_head_launch, verify_launch, tree_attention_launch):
        monkeypatch.setattr(module, "launch", launch)
    yield names


@pytest.mark.parametrize("backend", TRITON)
@pytest.mark.parametrize("lists", [False, True])
def test_verify_runs_on_a_variant(lists: bool, backend: str, served: list[str]) -> None:
    logits = 3 * torch.randn(4, 50, generator=torch.Generator().manual_seed(1))
    given: dict[str, Any] = {
        "trees": Trees.of([0, 3, 4], [-1, 0, 1, -1], [0, 7, 8, 0]),
        "positions": np.arange(4, dtype=np.int32),
        "samplings": same_samplings(2, temperature=0.8, top_k=9, top_p=0.9, seed=4),
    }
    if lists:
        given["biases"] = Ragged(
            *(np.array(one, np.int32) for one in ([0, 1, 1, 1, 1], [6])), np.ones(1, np.float32)
        )
    got, want = (verify(logits, **given, backend=one) for one in (backend, "reference"))
    np.testing.assert_array_equal(got.choices, want.choices)
    np.testing.assert_array_equal(got.paths, want.paths)
    rounds = [f"verify_round {number}-odd" for number in range(8)]  # 50 tokens are no multiple of 16
    assert served == [
        f"verify_scan fp32-{'lists' if lists else 'plain'}-odd",
        *rounds,
        "verify_choose fp32-odd",
    ]


@pytest.mark.parametrize("backend", TRITON)
def test_an_exit_runs_on_variants(backend: str, served: list[str]) -> None:
    given = case((17, 32, 130), "float32")
    got, want = (exit_head(**given, backend=one) for one in (backend, "reference"))
    sure: NDArray[Any] = want.margins > 1e-3
    np.testing.assert_array_equal(got.tokens.numpy()[sure], want.tokens[sure])
    assert served == ["exit_head_rows fp32", "exit_head_parts fp32-32-64", "exit_head_finish plain"]


@pytest.mark.parametrize("backend", TRITON)
def test_a_hint_runs_on_variants(backend: str, served: list[str]) -> None:
    cells, wanted = (written(inputs(1), 7, 1, one) for one in (backend, "cpu"))
    np.testing.assert_array_equal(cells[:, :3, :, :4], wanted[:, :3, :, :4])  # three sessions have rows
    assert served == ["exit_head_rows fp32", "exit_head_parts fp32-16-32", "exit_head_finish hint"]


@pytest.mark.parametrize("backend", TRITON)
@pytest.mark.parametrize(
    ("name", "variant"), [("one row", "64-16"), ("widths that are no powers of 2", "64-32-odd")]
)
def test_attention_runs_on_variants(name: str, variant: str, backend: str, served: list[str]) -> None:
    """A tile of 16 queries of float32 whose widths are odd runs on the variant for 32, half of which is masked."""
    sessions, given = inputs_of(CASES[name])
    plan = plan_of(CASES[name], sessions)
    got, want = (tree_attention(**given, plan=plan, backend=one) for one in (backend, "reference"))
    torch.testing.assert_close(got, torch.as_tensor(want), rtol=1e-5, atol=1e-5)
    assert plan.tile_queries == 16 and f"tree_attention_parts fp32-{variant}" == served[0]
