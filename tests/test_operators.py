"""The kernels as torch operators: torch's own checks, the kernels' own results, and a place in a compiled graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgespec.core.errors import EdgespecError
from edgespec.kernels import operators
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_verdict import Curves, Trees, exit_verdict
from edgespec.kernels.verify import Ragged, Samplings, verify

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


def lists_arguments() -> tuple[Any, ...]:
    """Three sessions of one row each: a bias, a repetition penalty, and rejection with nothing drafted."""
    whole = torch.float64
    ints = [[0, 1, 2, 3], [-1, -1, -1], [0, 0, 0], [10, 40, 90]]
    offsets, parents, tokens, positions = (torch.tensor(row, dtype=torch.int32) for row in ints)
    samplings = (
        torch.tensor([0.8, 0.0, 1.1], dtype=whole),
        torch.tensor([20, 0, 0], dtype=torch.int32),
        torch.tensor([0.95, 1.0, 0.9], dtype=whole),
        torch.tensor([0.0, 0.0, 0.01], dtype=whole),
        torch.tensor([1.0, 3.0, 1.0], dtype=whole),
        torch.tensor([5, 6, 7]),
        torch.tensor([False, False, True]),
    )
    lists = [[0, 0, 2, 2], [3, 4], [0, 1, 1, 1], [8], [0, 0, 0, 1], [2]]
    seen_offsets, seen_ids, bias_offsets, bias_ids, drafted_offsets, drafted_ids = (
        torch.tensor(row, dtype=torch.int32) for row in lists
    )
    logits = 3 * torch.randn(3, VOCABULARY, generator=torch.Generator().manual_seed(2))
    seen, biases = (seen_offsets, seen_ids), (bias_offsets, bias_ids, torch.tensor([50.0]))
    drafted = (drafted_offsets, drafted_ids, torch.tensor([0.5]))
    return logits, offsets, parents, tokens, positions, *samplings, *seen, *biases, *drafted, 1


def hint_arguments() -> tuple[Any, ...]:
    ints = [[5, 7, 1, 9, 3], [0, 4, 5], [-1, 0, 0, 1, -1], [-1, 5, 6, 7, -1]]
    tokens, offsets, parents, tree_tokens = (torch.tensor(row, dtype=torch.int32) for row in ints)
    margins = torch.tensor([1.0, 4.0, 9.0, 0.75, 0.2])
    curve_margins, curve_probabilities = torch.tensor([[0.0, 2.0, 4.0]]), torch.tensor([[0.1, 0.6, 0.9]])
    curve_of = torch.zeros(2, dtype=torch.int32)
    return tokens, margins, offsets, parents, tree_tokens, curve_margins, curve_probabilities, curve_of, 4


def without_nan(operator: str) -> tuple[Any, ...]:
    """Arguments whose results hold no NaN, which torch's checks take for differences."""
    if operator == "exit_verdict":
        return hint_arguments()
    if operator == "verify_lists":
        given = list(lists_arguments())
        given[11] = torch.zeros(3, dtype=torch.bool)  # rejection has no margins
        return tuple(given)
    if operator == "exit_head":
        *before, drafted, epsilon, scale, softcap = head_arguments()
        return *before, drafted.abs(), epsilon, scale, softcap
    logits, _, _, _, positions, *sampling, _ = verify_arguments()
    singles = torch.tensor([0, 1, 2], dtype=torch.int32)
    roots, nodes = torch.tensor([-1, -1], dtype=torch.int32), torch.zeros(2, dtype=torch.int32)
    return logits[:2], singles, roots, nodes, positions[:2], *sampling, 1


@pytest.mark.parametrize("operator", ["exit_head", "exit_verdict", "verify", "verify_lists"])
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


def test_verify_lists_is_the_kernel() -> None:
    arguments = lists_arguments()
    logits, offsets, parents, tree_tokens, positions, *rest = arguments
    samplings, lists = Samplings(*rest[:7]), rest[7:-1]
    given = {
        "seen": Ragged(*lists[:2]),
        "biases": Ragged(*lists[2:5]),
        "drafted": Ragged(*lists[5:]),
    }
    want = verify(logits, Trees(offsets, parents, tree_tokens), positions, samplings, **given)
    got = torch.ops.edgespec.verify_lists(*arguments)
    for ours, theirs in zip(got, vars(want).values(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    assert want.tokens[0] == 8
    none = [None] * 8
    plain = torch.ops.edgespec.verify_lists(*arguments[:12], *none, 1)
    assert plain[2][0] != 8


def test_exit_verdict_is_the_kernel() -> None:
    arguments = hint_arguments()
    tokens, margins, offsets, parents, tree_tokens, curve_margins, curve_probabilities, curve_of, _ = (
        arguments
    )
    curves = Curves(curve_margins.numpy(), curve_probabilities.numpy(), (0.0,))
    want = exit_verdict(tokens, margins, Trees(offsets, parents, tree_tokens), curves, curve_of)
    got = torch.ops.edgespec.exit_verdict(*arguments)
    for ours, theirs in zip(got, vars(want).values(), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    assert got[0].tolist() == [2, 0] and got[2].tolist() == [9, 3]


def test_a_largest_session_that_is_none_is_named() -> None:
    with pytest.raises(EdgespecError, match="largest must be"):
        torch.ops.edgespec.exit_verdict(*hint_arguments()[:-1], 7)
    with pytest.raises(EdgespecError, match="largest must be"):
        torch.ops.edgespec.verify(*verify_arguments()[:-1], 2)


def test_a_compiled_graph_goes_from_rows_to_a_hint() -> None:
    def hint(hidden: torch.Tensor, *rest: Any) -> torch.Tensor:
        tokens, margins, *_ = torch.ops.edgespec.exit_head(hidden, *rest)
        found = torch.ops.edgespec.exit_verdict(tokens[:5], margins[:5], *hint_arguments()[2:])
        return found[3] * 2

    arguments = head_arguments()
    compiled = torch.compile(hint, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), hint(*arguments))


def test_a_compiled_graph_holds_an_exit_as_one_node() -> None:
    def guess(hidden: torch.Tensor, *rest: Any) -> torch.Tensor:
        tokens, margins, *_ = torch.ops.edgespec.exit_head(hidden * 2, *rest)
        return torch.where(margins > 0.1, tokens, -1)

    arguments = head_arguments()
    compiled = torch.compile(guess, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*arguments), guess(*arguments))
