"""The CPU kernels on several threads: the same bits as on one, also where threads outnumber cores, call at once, or
are gone after a fork."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from kernel_backends import same_samplings

from edgespec.kernels.data import ExitScores, Trees, Verdicts
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.verify import verify

ROWS, VOCABULARY, WIDTH = 12, 32000, 64


def verdicts(threads: int | None, temperature: float = 0.8, top_p: float = 1.0) -> Verdicts:
    logits = np.random.default_rng(0).standard_normal((ROWS, VOCABULARY), dtype=np.float32)
    samplings = same_samplings(ROWS, temperature=temperature, top_p=top_p, seed=5)
    positions = np.arange(ROWS, dtype=np.int32)
    return verify(logits, Trees.single_rows(ROWS), positions, samplings, backend="cpu", threads=threads)


def scores(threads: int | None) -> ExitScores:
    random = np.random.default_rng(1)
    hidden, head = (random.standard_normal((rows, WIDTH), dtype=np.float32) for rows in (4, VOCABULARY))
    columns = {
        "temperatures": np.full(4, 0.8, np.float32),
        "seeds": np.full(4, 3, np.uint64),
        "positions": np.arange(4, dtype=np.int32),
    }
    return exit_head(hidden, np.ones(WIDTH, np.float32), head, **columns, backend="cpu", threads=threads)


def assert_same(left: Verdicts, right: Verdicts) -> None:
    np.testing.assert_array_equal(left.choices, right.choices)
    np.testing.assert_array_equal(left.logprobs, right.logprobs)
    np.testing.assert_array_equal(left.margins, right.margins)


@pytest.mark.parametrize("threads", [2, 16, None])
@pytest.mark.parametrize(("temperature", "top_p"), [(0.0, 1.0), (0.8, 1.0), (0.8, 0.9)])
def test_verify_decides_alike_on_several_threads(
    threads: int | None, temperature: float, top_p: float
) -> None:
    assert_same(verdicts(threads, temperature, top_p), verdicts(1, temperature, top_p))


@pytest.mark.parametrize("threads", [2, 16, None])
def test_an_exit_guesses_alike_on_several_threads(threads: int | None) -> None:
    alone, together = scores(1), scores(threads)
    np.testing.assert_array_equal(together.tokens, alone.tokens)
    np.testing.assert_array_equal(together.margins, alone.margins)


def test_callers_at_once_decide_alike() -> None:
    alone = verdicts(1)
    with ThreadPoolExecutor(4) as callers:
        for together in callers.map(verdicts, [4] * 8):
            assert_same(together, alone)


def test_a_child_after_a_fork_has_threads_of_its_own() -> None:
    alone = verdicts(4)  # the parent's pool is there
    with multiprocessing.get_context("fork").Pool(1) as child:
        assert_same(child.apply(verdicts, [4]), alone)
