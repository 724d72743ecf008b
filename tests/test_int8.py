"""int8 weights: close to float32, biases or not, and next to no acceptance lost on the bundled pair."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_drafts import VOCABULARY, compiled

import edgespec
from edgespec.core.errors import EdgespecError
from edgespec.core.noise import NoiseRows
from edgespec.core.slots import SlotMap
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.tree import DraftTree
from edgespec.engines.bundled import PAIR_DRAFT, bundled_engine
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.engines.model_folder import PAIR_FOLDER
from edgespec.train.corpus import collect

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

TEXTS, TEXT_LENGTH = 8, 256
SEED = 7


def choices(engine: DraftEngine, text: list[int], temperature: float) -> NDArray[np.int32]:
    """The engine's first choice behind every token of a text, with the session's noise."""
    engine.reset()
    slots, found = SlotMap(engine.capacity), []
    noise_rows = NoiseRows(engine.vocabulary_size)
    for length in range(64, len(text) + 1, 64):
        piece = slots.plan(text, length, DraftTree(length), [])
        if temperature:
            noise, which = noise_rows.rows(SEED, piece.positions + 1)
            best, _ = engine.run(piece, noise, which.astype(np.int32), 1 / temperature)
        else:
            best, _ = engine.run(piece, None, None, 1.0)
        found.append(best[:, 0])
    return np.concatenate(found)


def test_int8_stays_close_to_float32_with_biases() -> None:
    """Without biases: the bundled draft, below."""
    name = "qwen2, biased projections"
    text: list[int] = np.random.default_rng(0).integers(0, VOCABULARY, 256).tolist()
    full, rounded = (
        load_draft(made / "engine") for made in (compiled(name), compiled(name, precision="int8"))
    )
    assert rounded.manifest.precision == "int8"
    assert (choices(full, text, 0.0) == choices(rounded, text, 0.0)).mean() > 0.8


def test_int8_is_not_for_tensorrt(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="int8 weights are for ONNX Runtime: use --precision fp16"):
        edgespec.compile(tmp_path, tmp_path / "engine", runtime="tensorrt", precision="int8", progress=False)


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[DraftEngine]:
    """The bundled draft in float32 and in int8."""
    folder = tmp_path_factory.mktemp("int8")
    options: dict[str, Any] = {"runtime": "onnxruntime", "precision": "int8", "progress": False}
    return [
        load_draft(bundled_engine()),
        load_draft(edgespec.compile(PAIR_DRAFT, folder / "engine", **options)),
    ]


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    """Beginnings of held-out files."""

    def tokens() -> Iterator[list[int]]:
        tokenizer = Tokenizer.load(PAIR_DRAFT)
        for document in collect().held_out:
            text = tokenizer.encode(document.text[: 8 * TEXT_LENGTH])[:TEXT_LENGTH]
            if len(text) == TEXT_LENGTH:
                yield text

    found = tokens()
    return [next(found) for _ in range(TEXTS)]


@pytest.fixture(scope="module")
def target_logits(texts: list[list[int]]) -> list[NDArray[np.float32]]:
    """The bundled target's, [TEXT_LENGTH, V] of each text."""
    folder = PAIR_FOLDER / "target"
    target: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        return [target(torch.tensor([text])).logits[0].numpy() for text in texts]


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_int8_loses_at_most_two_points_of_acceptance_on_the_bundled_pair(
    engines: list[DraftEngine],
    texts: list[list[int]],
    target_logits: list[NDArray[np.float32]],
    temperature: float,
    record_property: Any,
) -> None:
    noise_rows = NoiseRows(engines[0].vocabulary_size, TEXT_LENGTH)
    noise, _ = noise_rows.rows(SEED, np.arange(1, TEXT_LENGTH + 1))
    accepted, agreed = [0, 0], 0
    for text, logits in zip(texts, target_logits, strict=True):
        right = (logits / temperature + noise if temperature else logits).argmax(axis=1)
        full, rounded = (choices(engine, text, temperature) for engine in engines)
        accepted[0] += int((full == right).sum())
        accepted[1] += int((rounded == right).sum())
        agreed += int((full == rounded).sum())
    count = TEXTS * TEXT_LENGTH
    for name, number in {"fp32": accepted[0], "int8": accepted[1], "agreement": agreed}.items():
        record_property(name, number / count)
    shares = [number / count for number in (*accepted, agreed)]
    print("T={}: accepted {:.4f}, by int8 {:.4f}; the two agree on {:.4f}".format(temperature, *shares))
    assert accepted[1] >= accepted[0] - 0.02 * count
    assert agreed > 0.9 * count
