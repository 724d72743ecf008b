"""One run of the draft over R rows and W cached slots: the engine against transformers eager, one thread.

`pytest benchmarks/test_draft_benchmark.py`; the figure is the time of a run, divide by R for a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from pytest_benchmark.fixture import BenchmarkFixture
from tiny_drafts import save_draft

import edgespec
from edgespec.core.slots import Piece
from edgespec.engines.draft_engine import load_draft

SHAPES: dict[str, dict[str, Any]] = {
    "2 x 128": {
        "vocab_size": 4096,
        "hidden_size": 128,
        "intermediate_size": 352,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    },
    "Vicuna-68M": {
        "vocab_size": 32000,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_attention_heads": 12,
        "num_key_value_heads": 12,
    },
}
"""The bundled draft's shape, and the reference case."""


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """The folder with `model` and `engine` of a shape."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    made: dict[str, Path] = {}

    def make(shape: str) -> Path:
        if shape not in made:
            made[shape] = tmp_path_factory.mktemp("shape")
            changes = {"max_position_embeddings": 2048, "initializer_range": 0.02, **SHAPES[shape]}
            edgespec.compile(
                save_draft(made[shape] / "model", **changes), made[shape] / "engine", progress=False
            )
        return made[shape]

    yield make
    torch.set_num_threads(threads)


@pytest.mark.parametrize("slots", [64, 512, 1984])
@pytest.mark.parametrize("rows", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_engine(
    benchmark: BenchmarkFixture, folder_of: Callable[[str], Path], shape: str, rows: int, slots: int
) -> None:
    benchmark.group = f"{shape}, {rows} rows, {slots} slots"
    engine = load_draft(folder_of(shape) / "engine")
    numbers = np.arange(rows, dtype=np.int32)
    piece = Piece(
        tokens=numbers,
        positions=numbers + slots,
        slots=numbers,
        cached=np.ones((rows, slots), dtype=np.bool_),
        among=np.tri(rows, dtype=np.bool_),
        slot_positions=np.arange(slots, dtype=np.int32),
    )
    noise = np.random.default_rng(0).gumbel(size=(rows, engine.vocabulary_size)).astype(np.float32)
    best, _ = benchmark(engine.run, piece, noise, numbers, 1.25)
    assert best.shape == (rows, engine.choices)


@pytest.mark.parametrize("slots", [64, 512, 1984])
@pytest.mark.parametrize("rows", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_transformers_eager(
    benchmark: BenchmarkFixture, folder_of: Callable[[str], Path], shape: str, rows: int, slots: int
) -> None:
    benchmark.group = f"{shape}, {rows} rows, {slots} slots"
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(
        folder_of(shape) / "model", dtype=torch.float32, attn_implementation="eager"
    )
    cache = transformers.DynamicCache(config=model.config)
    tokens = torch.arange(rows).unsqueeze(0)

    def run() -> Any:
        logits = model(tokens, past_key_values=cache).logits
        cache.crop(-rows)
        return logits.argmax(-1)

    with torch.no_grad():
        model(torch.zeros(1, slots, dtype=torch.int64), past_key_values=cache)
        assert benchmark(run).shape == (1, rows)
