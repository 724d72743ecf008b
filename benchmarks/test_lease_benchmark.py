"""What it costs to hand received tokens to Python: a view of the receive buffer against a copy, by size.

`pytest benchmarks/test_lease_benchmark.py --benchmark-only`. A view costs the same at every size, a copy grows: where
they cross, zero-copy begins to pay. docs/link.md has the figure.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from links import connect, event, opening
from pytest_benchmark.fixture import BenchmarkFixture

from edgespec._native import Listener, Open, ResilientConnection


@pytest.fixture
def link() -> Iterator[tuple[ResilientConnection, Listener]]:
    with closing(Listener("127.0.0.1", 0)) as listener, closing(connect(listener)[0]) as connection:
        yield connection, listener


@pytest.mark.parametrize("size", [128, 1 << 14, 1 << 18, (1 << 20) - 256])
@pytest.mark.parametrize("way", ["view", "copy"])
@pytest.mark.benchmark(group="tokens to Python")
def test_tokens(
    benchmark: BenchmarkFixture, link: tuple[ResilientConnection, Listener], way: str, size: int
) -> None:
    """The copy goes into memory that is there already: the least that a copy can cost."""
    connection, listener = link
    connection.open(opening(np.arange(size // 4, dtype=np.int32)))
    tokens: Any = event(listener, Open)
    out = np.empty(size // 4, dtype=np.int32)
    benchmark((lambda: tokens.tokens) if way == "view" else (lambda: np.copyto(out, tokens.tokens)))
