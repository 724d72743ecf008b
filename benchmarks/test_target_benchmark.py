"""A forward of the bundled target over R rows behind 128 tokens: the native decoder against transformers' modules.

`pytest benchmarks/test_target_benchmark.py`; one thread, float32.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from edgespec.core.slots import SLOT_BUCKET, Piece
from edgespec.engines.model_folder import find_folder
from edgespec.model import loading
from edgespec.model.loaded_model import LoadedModel
from edgespec.model.target import Target
from edgespec.model.target_engine import SessionRows

PAST = 128


@pytest.fixture(scope="module", params=["native", "transformers"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    folder = find_folder(None)
    model = loading.load_model(folder, "bundled", torch.float32, torch.device("cpu"))
    yield Target(LoadedModel(model, "bundled", b""), native=request.param == "native")
    torch.set_num_threads(threads)


@pytest.mark.parametrize("rows", [1, 4, 8, 16, 32])
def test_forward(benchmark: BenchmarkFixture, target: Target, rows: int) -> None:
    benchmark.group = f"a forward of {rows} rows"
    cache = target.open_cache(2 * PAST)
    with torch.inference_mode():
        target.runner.logits([SessionRows(cache, chain(0, PAST), np.array([PAST - 1]))])
        piece = chain(PAST, rows)
        benchmark(target.runner.logits, [SessionRows(cache, piece, np.arange(rows))])


def chain(past: int, rows: int) -> Piece:
    width = -(-(past + rows) // SLOT_BUCKET) * SLOT_BUCKET
    places = np.arange(past, past + rows, dtype=np.int32)
    cached = np.zeros((rows, width), dtype=np.bool_)
    cached[:, :past] = True
    among = np.tri(rows, dtype=np.bool_)
    return Piece(places % 4000 + 1, places, places, cached, among, np.arange(width, dtype=np.int32))
