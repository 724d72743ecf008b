"""What it costs to hand received tokens to Python: a view of the receive buffer against a copy, by size; batches.

`pytest benchmarks/test_lease_benchmark.py --benchmark-only`. A view costs the same at every size, a copy grows: where
they cross, zero-copy begins to pay. docs/link.md has the figure.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture
from test_net import COMMITTED_BIT, MAX_WAIT_S, connect, opening

from edgespec import _native
from edgespec._native import Connection, Listener

BLOCKS, NODES = 256, 8


@pytest.fixture
def link() -> Iterator[tuple[Connection, Listener]]:
    with closing(Listener("127.0.0.1", 0)) as listener, closing(connect(listener)[0]) as connection:
        yield connection, listener


@pytest.mark.parametrize("size", [128, 1 << 14, 1 << 18, (1 << 20) - 88])
@pytest.mark.parametrize("way", ["view", "copy"])
@pytest.mark.benchmark(group="tokens to Python")
def test_tokens(benchmark: BenchmarkFixture, link: tuple[Connection, Listener], way: str, size: int) -> None:
    """The copy goes into memory that is there already: the least that a copy can cost."""
    connection, listener = link
    connection.send(opening(np.arange(size // 4, dtype=np.int32)))
    [(_, opened)] = listener.poll(MAX_WAIT_S)
    tokens: Any = opened
    out = np.empty(size // 4, dtype=np.int32)
    benchmark((lambda: tokens.tokens) if way == "view" else (lambda: np.copyto(out, tokens.tokens)))


def one_by_one(listener: Listener) -> int:
    taken = 0
    while taken < BLOCKS:
        for _, message in listener.poll(MAX_WAIT_S):
            block: Any = message
            taken += 1
            _ = block.tokens.tolist(), block.parents.tolist(), (block.probabilities / 255.0).tolist()
    return taken


def in_batches(listener: Listener) -> int:
    taken = 0
    while taken < BLOCKS:
        batch = listener.poll_batch(MAX_WAIT_S)
        taken += len(batch.numbers)
        columns = [batch.nodes[name].tolist() for name in ("token", "parent", "probability")]
        for start, end in itertools.pairwise(batch.offsets.tolist()):
            _ = [column[start:end] for column in columns]
    return taken


@pytest.mark.parametrize("take", [one_by_one, in_batches])
@pytest.mark.benchmark(group=f"{BLOCKS} blocks of {NODES} nodes to Python")
def test_blocks(benchmark: BenchmarkFixture, link: tuple[Connection, Listener], take: Any) -> None:
    connection, listener = link
    parents, probabilities = np.full(NODES, COMMITTED_BIT, np.uint32), np.full(NODES, 200, np.uint8)
    block = _native.encode_block(1, 1, np.arange(NODES, dtype=np.int32), parents, probabilities)

    def send() -> tuple[tuple[Listener], dict[str, Any]]:
        before = connection.bytes_sent
        for _ in range(BLOCKS):
            connection.send(block)
        while connection.bytes_sent < before + BLOCKS * len(block):
            pass
        return (listener,), {}

    assert benchmark.pedantic(take, setup=send, rounds=30) == BLOCKS
