"""Do an engine's plans compute, on this device, what its graphs do? `python -m edgespec.engines.check DIR`

The same texts and trees go through the plan and through ONNX Runtime on the CPU, which reads the same ONNX file.
Prints how many tokens agree, how far scores are apart, and the times; exit status 1 where the plan is wrong.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.slots import Piece, SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.engines.draft_engine import DraftEngine, load_draft

TEXTS = 8
TEXT_LENGTH = 200
TEMPERATURE = 0.8

SCORE_BOUND = {"fp32": 2e-3, "fp16": 3e-2}
"""By precision: how far scores may differ, as a share of their spread, because a GPU sums in another order."""

AGREEMENT = 0.98
"""The least share of equal best tokens; the rest must be near-ties, which the bound on scores ensures."""


def run_texts(engine: DraftEngine) -> tuple[NDArray[np.int32], NDArray[np.float32], float]:
    """Best tokens [N, K] and scores [N, K] of every row of the same texts, and the median milliseconds of a run."""
    rng = np.random.default_rng(0)
    results, times_ms = [], []
    for _ in range(TEXTS):
        engine.reset()
        text = rng.integers(0, engine.vocabulary_size, min(TEXT_LENGTH, engine.capacity - 16)).tolist()
        for piece in _pieces(text, engine.capacity):
            noise = rng.gumbel(size=(len(piece), engine.vocabulary_size)).astype(np.float32)
            start_s = time.perf_counter()
            results.append(engine.run(piece, noise, np.arange(len(piece), dtype=np.int32), 1 / TEMPERATURE))
            times_ms.append((time.perf_counter() - start_s) * 1e3)
    best, scores = (np.concatenate(parts) for parts in zip(*results, strict=True))
    return best, scores, float(np.median(times_ms))


def _pieces(text: list[int], capacity: int) -> Iterator[Piece]:
    """A prefill, then one more token at a time with a small tree, whose slots are used again."""
    slots = SlotMap(capacity)
    half = len(text) // 2
    yield slots.plan(text, half, DraftTree(half), [])
    for length in range(half + 1, len(text) + 1):
        tree = DraftTree(length)
        for sibling, token in enumerate(sorted({text[length - 1], *text[:3]})[:3], start=3 * length):
            tree.add(sibling, ROOT, token, 0.5)
        yield slots.plan(text[:length], length, tree, list(tree))
        slots.commit([], DraftTree(length))


def eyes_difference(engine: DraftEngine, reference: DraftEngine) -> float | None:
    """How far the rows of a random picture are apart, as a share of their spread; None: the draft reads text only."""
    if engine.eyes is None or reference.eyes is None:
        return None
    shape = engine.eyes.shape
    pixels = np.random.default_rng(0).integers(0, 256, (shape.height, shape.width, 3)).astype(np.uint8)
    true_rows = reference.eyes.encode(pixels)
    return float(np.abs(engine.eyes.encode(pixels) - true_rows).max() / true_rows.std())


def main(folder: Path) -> int:
    """Print the report; 0 where the plan is sound."""
    engine, reference = load_draft(folder), load_draft(folder, "onnxruntime", threads=4)
    manifest = engine.manifest
    if manifest.runtime == "onnxruntime":
        raise EdgespecError(
            f"{folder} is for ONNX Runtime and has no plan: give an engine folder that has one."
        )
    print(f"{manifest.model}: {manifest.runtime}, {manifest.precision}, {manifest.capacity} slots")
    best, scores, gpu_ms = run_texts(engine)
    true_best, true_scores, cpu_ms = run_texts(reference)
    agreement = float((best[:, 0] == true_best[:, 0]).mean())
    difference = float(np.abs(scores - true_scores).max() / true_scores.std())
    print(f"best tokens equal to ONNX Runtime's: {agreement:.2%} of {len(best)} rows")
    print(f"largest difference of a score: {difference:.2g} of the scores' spread")
    if (seen := eyes_difference(engine, reference)) is not None:
        print(f"largest difference of what the vision encoder makes of a picture: {seen:.2g} of its spread")
        difference = max(difference, seen)
    print(f"a run with noise for each row: {gpu_ms:.3f} ms on the GPU, {cpu_ms:.3f} ms on the CPU (medians)")
    if agreement >= AGREEMENT and difference <= SCORE_BOUND[manifest.precision]:
        print("sound")
        return 0
    print("NOT SOUND: use --runtime onnxruntime, and report this with the lines above")
    return 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m edgespec.engines.check ENGINE_DIR")
    try:
        sys.exit(main(Path(sys.argv[1])))
    except EdgespecError as error:
        sys.exit(f"edgespec: error: {error}")
