"""Does an engine's plan compute, on this device, what its graph does? `python -m edgespec.engines.check DIR`

The same texts and trees go through the plan and through ONNX Runtime on the CPU, which reads the same ONNX file.
Prints how many tokens agree, how far scores are apart, and the times; exit status 1 where the plan is wrong.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.slots import Piece, SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.tensorrt_engines.plan import USUAL_ROWS

TEXTS = 8
TEXT_LENGTH = 200
TEMPERATURE = 0.8

SCORE_BOUND = {"fp32": 2e-3, "fp16": 3e-2}
"""By precision: how far scores may differ, as a share of their spread, because a GPU sums in another order."""

AGREEMENT = 0.98
"""The least share of equal best tokens; the rest must be near-ties, which the bound on scores ensures."""

TIMED_RUNS = 200


@dataclass(frozen=True)
class Report:
    """agreement: share of rows with the same best token. difference: of the scores, as a share of their spread."""

    rows: int
    agreement: float
    difference: float
    sound: bool


def compare(engine: DraftEngine, reference: DraftEngine, precision: str) -> Report:
    """Run the same pieces through both: prefill, decoding, trees with noise, slots that are used again."""
    same, rows, furthest, spread = 0, 0, 0.0, 0.0
    rng = np.random.default_rng(0)
    for _ in range(TEXTS):
        engine.reset()
        reference.reset()
        length = min(TEXT_LENGTH, engine.capacity - 16)
        for piece in _pieces(rng.integers(0, engine.vocabulary_size, length).tolist(), engine.capacity):
            noise = rng.gumbel(size=(len(piece), engine.vocabulary_size)).astype(np.float32)
            which: NDArray[np.int32] = np.arange(len(piece), dtype=np.int32)
            best, scores = engine.run(piece, noise, which, 1 / TEMPERATURE)
            true_best, true_scores = reference.run(piece, noise, which, 1 / TEMPERATURE)
            same += int((best[:, 0] == true_best[:, 0]).sum())
            rows += len(piece)
            furthest = max(furthest, float(np.abs(scores - true_scores).max()))
            spread = max(spread, float(true_scores.std()))
    agreement, difference = same / rows, furthest / spread if spread else float("inf")
    return Report(
        rows, agreement, difference, agreement >= AGREEMENT and difference <= SCORE_BOUND[precision]
    )


def run_ms(engine: DraftEngine, rows: int) -> float:
    """The median milliseconds of a run on `rows` rows behind a text."""
    engine.reset()
    text = list(range(64))
    slots = SlotMap(engine.capacity)
    engine.run(slots.plan(text, 64, DraftTree(64), []), None, None, 1.0, np.zeros(0, dtype=np.int32))
    tree = DraftTree(64)
    for node in range(1, rows + 1):
        tree.add(node, ROOT, node, 0.5)
    piece = slots.plan(text, 64, tree, list(range(1, rows + 1)))
    noise = np.zeros((1, engine.vocabulary_size), dtype=np.float32)
    which = np.zeros(rows, dtype=np.int32)
    times = []
    for _ in range(TIMED_RUNS):
        start_s = time.perf_counter()
        engine.run(piece, noise, which, 1.0)
        times.append(time.perf_counter() - start_s)
    return float(np.median(times)) * 1e3


def _pieces(text: list[int], capacity: int) -> Iterator[Piece]:
    """A prefill, then trees of which one branch is committed and the slots of the others are used again."""
    slots = SlotMap(capacity)
    length = len(text) // 2
    yield slots.plan(text, length, DraftTree(length), [])
    node = 0
    while length < len(text):
        length += 1
        tree = DraftTree(length)
        siblings = [node := node + 1 for _ in range(3)]
        for sibling, token in zip(siblings, sorted({text[length - 1], *text[:3]}), strict=False):
            tree.add(sibling, ROOT, token, 0.5)
        siblings = list(tree)
        yield slots.plan(text[:length], length, tree, siblings)
        slots.commit([], DraftTree(length))


def main(folder: Path) -> int:
    """Print the report; 0 where the plan is sound."""
    engine, reference = load_draft(folder), load_draft(folder, "onnxruntime", threads=4)
    manifest = engine.manifest
    if manifest.runtime == "onnxruntime":
        raise EdgespecError(
            f"{folder} is for ONNX Runtime and has no plan: give an engine folder that has one."
        )
    print(f"{manifest.model}: {manifest.runtime}, {manifest.precision}, {manifest.capacity} slots")
    report = compare(engine, reference, manifest.precision)
    print(f"best tokens equal to ONNX Runtime's: {report.agreement:.2%} of {report.rows} rows")
    print(f"largest difference of a score: {report.difference:.2g} of the scores' spread")
    for rows in (1, USUAL_ROWS):
        times = run_ms(engine, rows), run_ms(reference, rows)
        print(f"{rows} rows a run: {times[0]:.3f} ms on the GPU, {times[1]:.3f} ms on the CPU")
    print(
        "sound"
        if report.sound
        else "NOT SOUND: use --runtime onnxruntime, and report this with the lines above"
    )
    return 0 if report.sound else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m edgespec.engines.check ENGINE_DIR")
    try:
        sys.exit(main(Path(sys.argv[1])))
    except EdgespecError as error:
        sys.exit(f"edgespec: error: {error}")
