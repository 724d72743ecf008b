"""exit_head and verify on the CPU, at the bundled pair's shape: `pytest benchmarks/test_kernels_benchmark.py`."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_verdict import Trees
from edgespec.kernels.verify import Samplings, verify

VOCABULARY, WIDTH, SEED = 4096, 320, 3


@pytest.mark.parametrize("rows", [1, 8, 32])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_exit_head(benchmark: BenchmarkFixture, backend: str, rows: int) -> None:
    random = torch.Generator().manual_seed(0)
    head, hidden = (
        torch.randn(VOCABULARY, WIDTH, generator=random),
        torch.randn(rows, WIDTH, generator=random),
    )
    columns = {
        "temperatures": np.full(rows, 0.8, np.float32),
        "seeds": np.full(rows, SEED, np.uint64),
        "positions": np.arange(rows, dtype=np.int32),
    }
    benchmark(exit_head, hidden, torch.ones(WIDTH), head, **columns, backend=backend)


@pytest.mark.parametrize("rows", [1, 8, 32])
@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_verify(benchmark: BenchmarkFixture, backend: str, rows: int) -> None:
    logits = 3 * torch.randn(rows, VOCABULARY, generator=torch.Generator().manual_seed(0))
    singles = Trees(
        np.arange(rows + 1, dtype=np.int32), np.full(rows, -1, np.int32), np.zeros(rows, np.int32)
    )
    samplings = Samplings.same(rows, seed=SEED, temperature=0.8, top_p=0.95)
    benchmark(verify, logits, singles, np.arange(rows, dtype=np.int32), samplings, backend=backend)
