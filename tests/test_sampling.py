"""Sampling against the target's distribution, and what must never be drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from tiny_models import decide, rows_of

from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.noise import NoiseRows
from edgespec.core.params import SamplingParams
from edgespec.kernels.verify_reference import filtered
from edgespec.model.sampling import decide_together, guess_together

PARAMETERS = [
    SamplingParams(temperature=0.7),
    SamplingParams(temperature=1.3, top_k=1),
    SamplingParams(temperature=0.8, top_k=7),
    SamplingParams(temperature=0.8, top_k=10_000),
    SamplingParams(temperature=1.0, top_p=0.9),
    SamplingParams(temperature=1.0, top_p=0.01),
    SamplingParams(temperature=0.6, top_k=20, top_p=0.7),
]


def random_logits(kind: str, dtype: torch.dtype) -> torch.Tensor:
    logits = 3 * torch.randn(40, 101, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    if kind == "ties":
        logits = logits.round()
    if kind == "masked":
        logits[:, ::3] = -torch.inf
    return logits.to(dtype)


@pytest.mark.parametrize(
    "sampling", PARAMETERS[:1] + PARAMETERS[2:3] + PARAMETERS[4:5] + PARAMETERS[6:], ids=str
)
def test_coupled_sampling_draws_from_the_warped_distribution(sampling: SamplingParams) -> None:
    draws, vocabulary = 20_000, 24
    logits = 1.5 * torch.randn(1, vocabulary, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    scores = filtered(
        logits[0].numpy() / sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p
    )
    probability = np.exp(scores - scores.max())
    probability /= probability.sum()
    counts = np.zeros(vocabulary)
    for seed in (0, 1, 2**63 + 11, 2**64 - 1):
        many = logits.expand(draws // 4, vocabulary)
        decided = decide(many, np.arange(draws // 4), sampling, seed)
        counts += np.bincount(decided.tokens, minlength=vocabulary)
    assert counts[probability == 0].sum() == 0
    possible = probability > 0
    assert chisquare(counts[possible], draws * probability[possible]).pvalue > 1e-3


def test_a_token_is_the_best_score_after_noise() -> None:
    logits = random_logits("plain", torch.float64)
    positions = np.arange(len(logits)) * 7
    noise = np.empty(logits.shape, dtype=np.float32)
    _native.fill_gumbel(99, positions.astype(np.int32), noise)
    scores = logits.numpy() / 0.8 + noise
    decided = decide(logits, positions, SamplingParams(temperature=0.8), 99)
    assert decided.tokens.tolist() == scores.argmax(-1).tolist()
    ordered = np.sort(scores, axis=-1)
    np.testing.assert_allclose(decided.margins, ordered[:, -1] - ordered[:, -2], rtol=1e-6)


def test_log_probabilities_are_those_of_the_raw_logits() -> None:
    logits = random_logits("plain", torch.float32)
    decided = decide(logits, np.arange(40), SamplingParams(temperature=2.0, top_k=5, top_p=0.5), 1)
    expected = logits.log_softmax(-1)[torch.arange(40), torch.from_numpy(decided.tokens).long()]
    np.testing.assert_allclose(decided.logprobs, expected.numpy(), atol=1e-5)


def test_the_likeliest_tokens_are_those_of_the_raw_logits_for_the_parts_that_ask() -> None:
    logits = random_logits("plain", torch.float32)
    asked = SamplingParams(temperature=2.0, top_k=2, logprobs=True, top_logprobs=5)
    parts = [rows_of(SamplingParams(), 1, range(10)), rows_of(asked, 1, range(30))]
    plain, top = (decided.top for decided in decide_together(logits, parts))
    values, tokens = logits[10:].log_softmax(-1).topk(5)
    assert plain is None and top is not None
    assert top.tokens.tolist() == tokens.tolist()
    np.testing.assert_allclose(top.logprobs, values.numpy(), atol=1e-5)


def test_greedy_takes_the_lowest_id_of_equals_and_ignores_seed_and_filters() -> None:
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0], [2.0, 2.0, 2.0, 2.0]])
    for sampling in (SamplingParams(), SamplingParams(top_k=1, top_p=0.1)):
        decided = decide(logits, [4, 5], sampling, 123)
        assert decided.tokens.tolist() == [1, 0]
        assert decided.margins.tolist() == [0, 0]


def test_one_token_left_has_an_infinite_margin() -> None:
    decided = decide(
        random_logits("plain", torch.float32), range(40), SamplingParams(temperature=1.0, top_k=1), 3
    )
    assert np.isinf(decided.margins).all()
    assert decided.tokens.tolist() == random_logits("plain", torch.float32).argmax(-1).tolist()


def test_an_exits_guess_ignores_top_k_and_top_p() -> None:
    logits = random_logits("plain", torch.float32)
    filters = {"top_k": 2, "top_p": 0.3, "repetition_penalty": 1.5}
    sampled = rows_of(SamplingParams(temperature=0.8, **filters), 6, range(30))
    tokens, margins = guess_together(logits, [sampled, rows_of(SamplingParams(), 6, range(10))])
    decided = decide(logits[:30], np.arange(30), SamplingParams(temperature=0.8), 6)
    np.testing.assert_array_equal(tokens, [*decided.tokens, *logits[30:].argmax(-1).tolist()])
    np.testing.assert_array_equal(margins[:30], decided.margins)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("sampling", [SamplingParams(), PARAMETERS[0], PARAMETERS[4], PARAMETERS[6]], ids=str)
def test_logits_that_are_not_numbers_are_never_sampled_from(bad: float, sampling: SamplingParams) -> None:
    logits = random_logits("plain", torch.float32)
    logits[7, 30] = bad
    with pytest.raises(EdgespecError, match="NaN or infinite"):
        decide(logits, range(40), sampling, 1)


def test_a_repetition_penalty_without_the_texts_is_an_error() -> None:
    with pytest.raises(EdgespecError, match="text so far"):
        decide(torch.zeros(1, 5), [0], SamplingParams(repetition_penalty=1.1), 1)


def test_no_rows_decide_nothing() -> None:
    assert len(decide(torch.empty(0, 9), [], PARAMETERS[0], 1).tokens) == 0


def test_noise_rows_are_the_same_drawn_kept_or_dropped() -> None:
    rows = NoiseRows(33, capacity=4)
    random = np.random.default_rng(0)
    for _ in range(60):
        seed = int(random.integers(2))
        positions = random.integers(0, 9, int(random.integers(1, 8)))
        noise, which = rows.rows(seed, positions)
        expected = np.empty((len(positions), 33), dtype=np.float32)
        _native.fill_gumbel(seed, positions.astype(np.int32), expected)
        np.testing.assert_array_equal(noise[which], expected)
        assert len(noise) == len(set(positions.tolist()))


def test_noise_kept_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    fill = _native.fill_gumbel

    def recording(seed: int, positions: np.ndarray, out: np.ndarray) -> None:  # type: ignore[type-arg]
        drawn.extend(positions.tolist())
        fill(seed, positions, out)

    monkeypatch.setattr(_native, "fill_gumbel", recording)
    rows = NoiseRows(8, capacity=4)
    rows.rows(1, [5, 6, 6])
    rows.rows(1, [6, 7])
    rows.rows(1, [5, 8])
    rows.rows(1, [6])
    assert drawn == [5, 6, 7, 8]
