"""The kernels as torch operators: torch's own checks, the kernels' own results, and a place in a compiled graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgespec.kernels import operators
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_verdict import Trees
from edgespec.kernels.verify import Samplings, verify

ROWS, WIDTH, VOCABULARY = 6, 32, 90


def head_arguments(dtype: torch.dtype = torch.float32) -> tuple[Any, ...]:
    random = torch.Generator().manual_seed(1)
    hidden, norm, head = (
        torch.randn(shape, generator=random).to(dtype)
        for shape in ((ROWS, WIDTH), (WIDTH,), (VOCABULARY, WIDTH))
    )
    temperatures = torch.tensor([0.0, 0.5, 0.8, 1.0, 1.0, 0.0])
    seeds, positions = torch.full((ROWS,), 7), torch.arange(ROWS, dtype=torch.int32) + 40
    draft_tokens = torch.tensor([3, -1, 5, 6, -1, 80], dtype=torch.int32)
    return hidden, norm, head, temperatures, seeds, positions, draft_tokens, 1e-5, 1.0, 0.0


def verify_arguments() -> tuple[Any, ...]:
    logits = 3 * torch.randn(ROWS, VOCABULARY, generator=torch.Generator().manual_seed(2))
    offsets = torch.tensor([0, 4, 6], dtype=torch.int32)
    parents = torch.tensor([-1, 0, 0, 1, -1, 0], dtype=torch.int32)
    tokens = torch.tensor([0, 5, 9, 7, 0, 11], dtype=torch.int32)
    positions = torch.tensor([10, 11, 11, 12, 90, 91], dtype=torch.int32)
    whole = torch.float64
    return (
        logits,
        offsets,
        parents,
        tokens,
        positions,
        torch.tensor([0.8, 0.0], dtype=whole),
        torch.tensor([20, 0], dtype=torch.int32),
        torch.tensor([0.95, 1.0], dtype=whole),
        torch.tensor([0.0, 0.0], dtype=whole),
        torch.tensor([5, 6]),
        4,
    )


def without_nan(operator: str) -> tuple[Any, ...]:
    """Arguments whose results hold no NaN, which torch's checks take for differences."""
    if operator == "exit_head":
        *before, drafted, epsilon, scale, softcap = head_arguments()
        return *before, drafted.abs(), epsilon, scale, softcap
    logits, _, _, _, positions, *sampling, _ = verify_arguments()
    singles = torch.tensor([0, 1, 2], dtype=torch.int32)
    roots, nodes = torch.tensor([-1, -1], dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    return logits[:2], singles, roots, nodes, positions[:2], *sampling, 1


@pytest.mark.parametrize("operator", ["exit_head", "verify"])
def test_torch_finds_nothing_wrong(operator: str) -> None:
    checks = ("test_schema", "test_faketensor", "test_aot_dispatch_static")
    results = torch.library.opcheck(getattr(operators, operator), without_nan(operator), test_utils=checks)
    assert set(results.values()) == {"SUCCESS"}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_exit_head_is_the_kernel(dtype: torch.dtype) -> None:
    arguments = head_arguments(dtype)
    hidden, norm, head, temperatures, seeds, positions, draft_tokens, *_ = arguments
    tokens, margins, *_, agrees, sound = torch.ops.edgespec.exit_head(*arguments)
    names = {
        "temperatures": temperatures,
        "seeds": seeds,
        "positions": positions,
        "draft_tokens": draft_tokens,
    }
    scores = exit_head(hidden, norm, head, **names)
    np.testing.assert_array_equal(tokens.numpy(), scores.tokens)
    np.testing.assert_allclose(margins.numpy(), scores.margins, rtol=1e-4, atol=1e-4)
    assert agrees.tolist() == scores.agrees.tolist() and bool(sound.all())


def test_verify_is_the_kernel() -> None:
    arguments = verify_arguments()
    logits, offsets, parents, tree_tokens, positions, temperatures, top_k, top_p, min_p, seeds, _ = arguments
    lengths, paths, tokens, logprobs, _, _ = torch.ops.edgespec.verify(*arguments)
    samplings = Samplings(temperatures, top_k, top_p, min_p, np.ones(2), seeds, np.zeros(2, np.bool_))
    verdicts = verify(logits, Trees(offsets, parents, tree_tokens), positions, samplings)
    for got, want in ((lengths, verdicts.lengths), (paths, verdicts.paths), (tokens, verdicts.tokens)):
        np.testing.assert_array_equal(got.numpy(), want)
    np.testing.assert_allclose(logprobs.numpy(), verdicts.logprobs)


def test_a_compiled_graph_holds_an_exit_as_one_node() -> None:
    def guess(hidden: torch.Tensor, *rest: Any) -> torch.Tensor:
        tokens, margins, *_ = torch.ops.edgespec.exit_head(hidden * 2, *rest)
        return torch.where(margins > 0.1, tokens, -1)

    arguments = head_arguments()
    compiled = torch.compile(guess, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), guess(*arguments))
