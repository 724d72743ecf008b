"""The kernels on the threads that torch keeps: the same to the last bit as on one, and torch goes on with them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from edgespec import _native
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_verdict import Trees
from edgespec.kernels.verify import Samplings, verify

ROWS, VOCABULARY, WIDTH = 12, 32000, 64


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    if _native.torch_threads() == 0:
        torch.set_num_threads(before)
        pytest.skip("this torch brings an OpenMP runtime other than libgomp")
    yield
    torch.set_num_threads(before)


def test_they_are_found_as_torch_was_told_how_many_there_are(three_threads: None) -> None:
    assert _native.torch_threads() == 3
    torch.set_num_threads(1)
    assert _native.torch_threads() == 0


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_verify_decides_alike_on_them(three_threads: None, temperature: float) -> None:
    logits = torch.from_numpy(np.random.default_rng(0).standard_normal((ROWS, VOCABULARY), dtype=np.float32))
    singles = Trees(
        np.arange(ROWS + 1, dtype=np.int32), np.full(ROWS, -1, np.int32), np.zeros(ROWS, np.int32)
    )
    given = singles, np.arange(ROWS, dtype=np.int32), Samplings.same(ROWS, temperature=temperature, seed=5)
    alone = verify(logits, *given, backend="cpu", threads=1)
    for torch_threads in (True, False):
        together = verify(logits, *given, backend="cpu", torch_threads=torch_threads)
        np.testing.assert_array_equal(together.tokens, alone.tokens)
        np.testing.assert_array_equal(together.logprobs, alone.logprobs)
        np.testing.assert_array_equal(together.margins, alone.margins)
    expected = logits @ logits.T
    assert torch.equal(logits @ logits.T, expected)  # torch's own loops run on them still


def test_an_exit_guesses_alike_on_them(three_threads: None) -> None:
    random = np.random.default_rng(1)
    hidden, head = (
        torch.from_numpy(random.standard_normal((rows, WIDTH), dtype=np.float32)) for rows in (4, VOCABULARY)
    )
    columns = {
        "temperatures": np.full(4, 0.8, np.float32),
        "seeds": np.full(4, 3, np.uint64),
        "positions": np.arange(4, dtype=np.int32),
    }
    alone, together = (
        exit_head(hidden, torch.ones(WIDTH), head, **columns, backend="cpu", threads=threads)
        for threads in (1, None)
    )
    np.testing.assert_array_equal(together.tokens, alone.tokens)
    np.testing.assert_array_equal(together.margins, alone.margins)
    np.testing.assert_array_equal(together.logsumexps, alone.logsumexps)
