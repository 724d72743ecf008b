"""One run of a draft over R rows and W cached slots: the engine, float32 and int8, and transformers eager; one thread.

`pytest benchmarks/test_draft_benchmark.py --benchmark-only`; the figure is the time of a run, divide by R for a row.
"""

from __future__ import annotations

from collections.abc import Callable
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
from edgespec.model.cache_argument import cache_argument

SHAPES: dict[str, dict[str, Any]] = {
    "2 x 128": {"vocab_size": 4096, "hidden_size": 128, "intermediate_size": 352, "num_key_value_heads": 2,
                "tie_word_embeddings": True},
    "Vicuna-68M": {"vocab_size": 32000, "hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12,
                   "num_key_value_heads": 12},
}  # fmt: skip
"""The bundled draft's shape, and the paper's."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    torch.set_num_threads(1)
    common = {"max_position_embeddings": 2048, "initializer_range": 0.02}
    return {
        shape: save_draft(tmp_path_factory.mktemp("shape") / "model", **common, **changes)
        for shape, changes in SHAPES.items()
    }


def engine_run(model: Path, rows: int, slots: int, precision: str) -> Callable[[], Any]:
    folder = model.with_name(precision)
    engine = load_draft(
        edgespec.compile(model, folder, runtime="onnxruntime", precision=precision, progress=False)
    )
    numbers = np.arange(rows, dtype=np.int32)
    cached, among = np.ones((rows, slots), dtype=np.bool_), np.tri(rows, dtype=np.bool_)
    piece = Piece(numbers, numbers + slots, numbers, cached, among, np.arange(slots, dtype=np.int32))
    noise = np.random.default_rng(0).gumbel(size=(rows, engine.vocabulary_size)).astype(np.float32)
    return lambda: engine.run(piece, noise, numbers, 1.25)


def transformers_run(model: Path, rows: int, slots: int) -> Callable[[], Any]:
    auto: Any = transformers.AutoModelForCausalLM
    loaded = auto.from_pretrained(model, dtype=torch.float32, attn_implementation="eager")
    cache = transformers.DynamicCache(config=loaded.config)
    kept = {cache_argument(loaded): cache}
    tokens = torch.arange(rows).unsqueeze(0)

    def run() -> Any:
        best = loaded(tokens, **kept).logits.argmax(-1)
        cache.crop(-rows)
        return best

    loaded(torch.zeros(1, slots, dtype=torch.int64), **kept)
    return run


@pytest.mark.parametrize("slots", [64, 1984])
@pytest.mark.parametrize("rows", [1, 2, 4, 8])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("way", ["fp32", "int8", "transformers"])
def test_run(
    benchmark: BenchmarkFixture, models: dict[str, Path], way: str, shape: str, rows: int, slots: int
) -> None:
    benchmark.group = f"{shape}, {rows} rows, {slots} slots"
    with torch.no_grad():
        given = models[shape], rows, slots
        benchmark(transformers_run(*given) if way == "transformers" else engine_run(*given, way))
