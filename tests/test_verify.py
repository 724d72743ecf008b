"""verify in every backend beside its reference, and the reference beside transformers' warpers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from kernel_backends import BACKENDS, TIERS, same_samplings, samplings
from numpy.typing import ArrayLike, NDArray
from test_exit_verdict import random_trees
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from edgespec import _native
from edgespec.kernels import arguments
from edgespec.kernels.data import Ragged, Trees, Verdicts
from edgespec.kernels.verify import verify
from edgespec.kernels.verify_reference import filtered, penalised

PARAMETERS: list[dict[str, Any]] = [
    {},
    {"temperature": 0.8},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 0.7, "top_p": 0.8},
    {"temperature": 1.3, "top_k": 20, "top_p": 0.9, "min_p": 0.05},
    {"temperature": 1.1, "min_p": 0.2},
    {"temperature": 0.9, "repetition_penalty": 1.4},
    {"temperature": 0.0, "repetition_penalty": 2.5},
    {"temperature": 0.9, "top_p": 1e-9},
]

TIED: list[dict[str, Any]] = [
    {"temperature": 0.7, "top_p": 0.81},
    {"temperature": 1, "top_k": 3, "top_p": 0.52},
    {"temperature": 1.1, "min_p": 0.2},
]
"""No whole number of equals reaches these p exactly: that edge would be rounding's to decide."""

DTYPES = ["float32", "bfloat16", "float16", "float64"]


def positions(rows: int, step: int = 1) -> NDArray[np.int32]:
    return step * np.arange(rows, dtype=np.int32)


def random_logits(rows: int, vocabulary: int, dtype: str, seed: int = 1) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, vocabulary, generator=random, dtype=torch.float64)).to(
        getattr(torch, dtype)
    )


def ragged(offsets: ArrayLike, ids: ArrayLike, values: ArrayLike | None = None) -> Ragged:
    integers = [np.asarray(part, np.int32) for part in (offsets, ids)]
    return Ragged(*integers, None if values is None else np.asarray(values, np.float32))


def lists(rows: int, length: int, vocabulary: int, seed: int = 2) -> Ragged:
    random = np.random.default_rng(seed)
    ids = [random.choice(vocabulary, length, replace=False) for _ in range(rows)]
    return ragged(np.arange(rows + 1) * length, np.concatenate(ids))


def as_numpy(verdicts: Verdicts) -> Verdicts:
    return Verdicts(*(np.asarray(column) for column in vars(verdicts).values()))


def assert_agree(got: Verdicts, want: Verdicts) -> None:
    """Scores are made of the same float32 operations in all backends: the ids are equal, not only nearly."""
    for name in ("lengths", "paths", "choices"):
        np.testing.assert_array_equal(getattr(got, name), getattr(want, name), err_msg=name)
    np.testing.assert_allclose(got.margins, want.margins, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got.logprobs, want.logprobs, rtol=1e-5, atol=1e-5)


def skip_float64_in_triton(dtype: str, backend: str) -> None:
    if (dtype, backend) == ("float64", "triton"):
        pytest.skip("Triton's kernels score in float32")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_backend_says_what_the_reference_says(dtype: str, backend: str) -> None:
    """Rows of one launch sample in all ways."""
    skip_float64_in_triton(dtype, backend)
    ways, vocabulary = PARAMETERS * 8, 1271
    if backend == "triton":  # slow in the interpreter: halves are float32 once they are read
        ways, vocabulary = PARAMETERS if dtype == "float32" else PARAMETERS[4:5], 131
    rows = len(ways)
    logits = random_logits(rows, vocabulary, dtype)
    biases = ragged(np.arange(rows + 1), np.arange(rows) % vocabulary, np.linspace(-2, 2, rows))
    given: dict[str, Any] = {
        "trees": Trees.single_rows(rows),
        "positions": positions(rows, 3),
        "samplings": samplings([{"seed": 2**63 + 5, **one} for one in ways]),
        "seen": lists(rows, 17, vocabulary),
        "biases": biases,
    }
    got, want = (verify(logits, **given, backend=one) for one in (backend, "reference"))
    assert_agree(as_numpy(got), want)


@pytest.mark.parametrize("backend", BACKENDS)
def test_trees_are_walked_as_the_reference_does(backend: str) -> None:
    random = np.random.default_rng(9)
    ways = [
        {"temperature": 0.5 * s, "top_k": 2 * (s == 1), "top_p": 1 - 0.3 * (s == 2), "seed": s}
        for s in range(6)
    ]
    times, most_rows = (1, 4) if backend == "triton" else (20, 8)
    ways = ways[:3] if backend == "triton" else ways
    for _ in range(times):
        trees = random_trees(len(ways), most_rows, 5, random)
        rows = int(trees.offsets[-1])
        given = trees, positions(rows), samplings(ways)
        logits = random_logits(rows, 5, "float32", int(random.integers(99)))
        got, want = (verify(logits, *given, backend=one) for one in (backend, "reference"))
        assert_agree(as_numpy(got), want)


@pytest.mark.parametrize("tier", TIERS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_tier_of_the_processor_agrees(dtype: str, tier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = _native.verify
    monkeypatch.setattr(_native, "verify", lambda *values, **named: backend(*values, tier, **named))
    test_a_backend_says_what_the_reference_says(dtype, "cpu")


def transformers_scores(logits: torch.Tensor, seen: torch.Tensor, parameters: dict[str, Any]) -> torch.Tensor:
    scores = RepetitionPenaltyLogitsProcessor(parameters.get("repetition_penalty", 1.0))(seen, logits)
    if parameters.get("temperature"):
        scores = TemperatureLogitsWarper(parameters["temperature"])(seen, scores)
    if parameters.get("top_k"):
        scores = TopKLogitsWarper(parameters["top_k"])(seen, scores)
    if parameters.get("top_p"):
        scores = TopPLogitsWarper(parameters["top_p"])(seen, scores)
    if parameters.get("min_p"):
        scores = MinPLogitsWarper(parameters["min_p"])(seen, scores)
    return scores


@pytest.mark.parametrize("kind", ["plain", "ties", "masked"])
@pytest.mark.parametrize("parameters", PARAMETERS, ids=str)
def test_the_reference_filters_as_transformers_does(parameters: dict[str, Any], kind: str) -> None:
    logits = random_logits(40, 101, "float64")
    if kind == "ties":
        logits = logits.round()
    if kind == "masked":
        logits[:, ::3] = -torch.inf
    seen = lists(40, 9, 101).ids.reshape(40, 9)
    bias = np.array([3, 50]), np.array([4.0, -2.0], np.float32)
    biased = logits.clone()
    biased[:, bias[0]] += torch.from_numpy(bias[1])
    want = transformers_scores(biased, torch.from_numpy(seen), parameters).numpy()
    temperature = parameters.get("temperature", 0) or 1
    settings = [parameters.get(name, off) for name, off in (("top_k", 0), ("top_p", 1), ("min_p", 0))]
    for row, raw in enumerate(logits.numpy()):
        scores = penalised(raw, bias, seen[row], parameters.get("repetition_penalty", 1.0))
        got = filtered(scores / temperature, *settings)
        if kind == "ties":  # torch's sort leaves open which of the equals at top-p's edge stay
            got, want[row] = np.sort(got), np.sort(want[row])
        np.testing.assert_array_equal(got, want[row])


@pytest.mark.parametrize("backend", BACKENDS)
def test_ties_and_masked_tokens_are_filtered_alike(backend: str) -> None:
    logits = random_logits(3, 70, "float32").round()
    logits[:, ::3] = -torch.inf
    logits[2] = 1.0
    ways = [{**one, "seed": row} for one in (PARAMETERS[2], *TIED) for row in range(3)]
    logits, rows = logits.repeat(4, 1), 12
    if backend == "triton":
        logits, ways, rows = logits[1::2].contiguous(), ways[1::2], 6
    for start in range(1 if backend == "triton" else 50):
        given = (Trees.single_rows(rows), positions(rows) + start, samplings(ways))
        got, want = (verify(logits, *given, backend=one) for one in (backend, "reference"))
        assert_agree(as_numpy(got), want)


def test_large_vocabularies_and_flat_distributions_are_filtered_alike() -> None:
    logits = torch.cat([random_logits(3, 40_000, "float32"), 0.01 * random_logits(3, 40_000, "float32")])
    for parameters in ({"top_p": 0.95}, {"top_k": 3000}, {"top_k": 2, "top_p": 0.4}, {"min_p": 0.001}):
        given = (Trees.single_rows(6), positions(6), same_samplings(6, temperature=0.9, seed=3, **parameters))
        assert_agree(
            verify(logits, *given, backend="cpu", threads=2), verify(logits, *given, backend="reference")
        )


@pytest.mark.parametrize("temperature", [1e-7, 1e7])
@pytest.mark.parametrize("top_k", [0, 4])
def test_temperatures_at_which_quotients_meet_are_sampled_alike(temperature: float, top_k: int) -> None:
    sampling = same_samplings(8, temperature=temperature, top_k=top_k, seed=4)
    given = (Trees.single_rows(8), positions(8), sampling)
    for logits in (random_logits(8, 3000, "float32"), 1e-36 * random_logits(8, 3000, "float32")):
        assert_agree(verify(logits, *given, backend="cpu"), verify(logits, *given, backend="reference"))


def test_scores_that_are_equal_when_divided_all_stay_at_top_ks_edge() -> None:
    low = np.float32(7.75)
    high, temperature = np.nextafter(low, np.float32(9)), np.float32(1.9)
    assert low / temperature == high / temperature
    logits = torch.full((1, 4000), float(low))
    logits[0, 1::2] = float(high)
    for seed in range(20):
        given = (Trees.single_rows(1), positions(1), same_samplings(1, temperature=1.9, top_k=3, seed=seed))
        assert_agree(verify(logits, *given, backend="cpu"), verify(logits, *given, backend="reference"))


# Rows that cannot be


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_is_no_number_is_reported_and_never_sampled_from(
    temperature: float, dtype: str, backend: str
) -> None:
    skip_float64_in_triton(dtype, backend)
    logits = random_logits(5, 90, dtype)
    logits[1, 7], logits[2, 8], logits[3] = np.nan, np.inf, -np.inf
    logits[4, 1:] = -np.inf
    sampling = same_samplings(5, temperature=temperature)
    got = as_numpy(verify(logits, Trees.single_rows(5), positions(5), sampling, backend=backend))
    assert (got.choices >= 0).tolist() == [True, False, False, False, True]
    assert got.choices[1:].tolist() == [-1, -1, -1, 0]
    assert np.isnan(got.logprobs[1:4]).all()


@pytest.mark.parametrize("backend", ["reference", *BACKENDS])
def test_a_walk_ends_at_a_row_that_is_no_number(backend: str) -> None:
    logits = torch.zeros(2, 6)
    logits[0, 4], logits[1, 0] = 9, np.nan
    trees = Trees.of([0, 2], [-1, 0], [-1, 4])
    got = as_numpy(verify(logits, trees, positions(2), same_samplings(1), backend=backend))
    assert (got.lengths.tolist(), got.paths.tolist(), got.choices.tolist()) == ([1], [[1]], [4, -1])


def test_half_types_are_read_without_a_copy() -> None:
    logits = random_logits(2, 8, "bfloat16")
    assert np.shares_memory(arguments.raw(logits), logits.view(torch.int16).numpy())
