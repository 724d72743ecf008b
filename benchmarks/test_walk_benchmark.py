"""What the walk down a draft tree adds to a verification on a CPU: rows of a chain that is right, against single rows.

`pytest benchmarks/test_walk_benchmark.py`; one thread, float32.
"""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from edgespec.core.decided_tree import DecidedTree
from edgespec.kernels.data import Samplings, Trees
from edgespec.kernels.verify import verify


@pytest.mark.parametrize("walked", [False, True], ids=["single rows", "one chain"])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("rows", [8, 32])
@pytest.mark.parametrize("vocabulary", [2048, 32000])
def test_walk(
    benchmark: BenchmarkFixture, vocabulary: int, rows: int, temperature: float, walked: bool
) -> None:
    benchmark.group = f"{rows} rows of {vocabulary} tokens, temperature {temperature}"
    random = np.random.default_rng(0)
    logits = random.standard_normal((rows, vocabulary), dtype=np.float32)
    drafted = random.permutation(vocabulary)[: rows - 1]
    logits[np.arange(rows - 1), drafted] = 30
    trees = Trees.joined([DecidedTree.chain(drafted.tolist())]) if walked else Trees.single_rows(rows)
    columns = (temperature, float), (0, np.int32), (1, float), (0, float), (1, float), (7, np.uint64)
    samplings = Samplings(*(np.full(trees.sessions, value, kind) for value, kind in columns))
    positions = np.arange(rows, dtype=np.int32)
    found = benchmark(verify, logits, trees, positions, samplings, backend="cpu", threads=1)
    assert found.lengths[0] == (rows - 1) * walked
