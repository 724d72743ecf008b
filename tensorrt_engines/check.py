"""Does an engine's plan compute, on this device, what its graph does? `python -m edgespec.tensorrt_engines.check DIR`

The same texts and trees go through the plan and through ONNX Runtime on the CPU, which reads the same ONNX file. It
prints how many tokens agree, how far scores are apart, and the times; exit status 1 where the plan is wrong.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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
"""By precision: what scores may differ by, as a share of their spread. A GPU sums in another order."""

AGREEMENT = 0.98
"""Of the best tokens, at least; the rest must be near-ties, which the bound on scores sees to."""

TIMED_RUNS = 200


@dataclass(frozen=True)
class Report:
    """agreement: share of rows whose best token is the same. difference: of the scores, as a share of their spread."""

    rows: int
    agreement: float
    difference: float
    sound: bool


def compare(engine: DraftEngine, reference: DraftEngine, precision: str) -> Report:
    """Run the same pieces through both: prefill, decoding, trees with noise, reused slots."""
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
    return _report(same, rows, furthest, spread, precision)


def compare_levels(engine: DraftEngine, reference: DraftEngine, precision: str) -> Report:
    """Grow the same levels with both, behind texts of several lengths; where a level keeps other tokens (a near-tie),
    the levels behind it are left out."""
    assert engine.deep is not None and reference.deep is not None
    levels, branches = engine.deep.levels, engine.deep.branches
    same, rows, furthest, spread = 0, 0, 0.0, 0.0
    rng = np.random.default_rng(1)
    for _ in range(TEXTS):
        engine.reset()
        reference.reset()
        length = int(rng.integers(1, min(TEXT_LENGTH, engine.capacity - levels * branches)))
        slots = SlotMap(engine.capacity)
        text = rng.integers(0, engine.vocabulary_size, length).tolist()
        piece = slots.plan(text, length, DraftTree(length), [])
        reserved = slots.reserve((levels - 1) * branches)
        noise = rng.gumbel(size=(levels, engine.vocabulary_size)).astype(np.float32)
        found = engine.deep.run(piece, reserved, noise, TEMPERATURE, length - 1)
        true = reference.deep.run(piece, reserved, noise, TEMPERATURE, length - 1)
        for level in range(levels):
            same += int((found.best[level, :, 0] == true.best[level, :, 0]).sum())
            rows += branches
            furthest = max(furthest, float(np.abs(found.scores[level] - true.scores[level]).max()))
            spread = max(spread, float(true.scores[level].std()))
            if (found.tokens[level] != true.tokens[level]).any():
                break
    return _report(same, rows, furthest, spread, precision)


def _report(same: int, rows: int, furthest: float, spread: float, precision: str) -> Report:
    agreement, difference = same / rows, furthest / spread if spread else float("inf")
    return Report(
        rows, agreement, difference, agreement >= AGREEMENT and difference <= SCORE_BOUND[precision]
    )


def run_ms(engine: DraftEngine, rows: int) -> float:
    """Milliseconds of a run on so many rows behind a text, the median."""
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
    return _median_ms(lambda: engine.run(piece, noise, which, 1.0))


def levels_ms(engine: DraftEngine) -> float:
    """Milliseconds of a run of several levels behind a text, the median."""
    assert engine.deep is not None
    engine.reset()
    slots = SlotMap(engine.capacity)
    piece = slots.plan([1], 1, DraftTree(1), [])
    reserved = slots.reserve((engine.deep.levels - 1) * engine.deep.branches)
    deep = engine.deep
    return _median_ms(lambda: deep.run(piece, reserved, None, 0.0, 0))


def _median_ms(run: Callable[[], object]) -> float:
    times = []
    for _ in range(TIMED_RUNS):
        start_s = time.perf_counter()
        run()
        times.append(time.perf_counter() - start_s)
    return float(np.median(times)) * 1e3


def _pieces(text: list[int], capacity: int) -> Iterator[Piece]:
    """A prefill, single tokens, then trees of which one branch is committed and the others' slots come again."""
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
    for rows in (1, manifest.branches):
        times = run_ms(engine, rows), run_ms(reference, rows)
        print(f"{rows} rows a run: {times[0]:.3f} ms on the GPU, {times[1]:.3f} ms on the CPU")
    sound = report.sound
    if engine.deep is not None and reference.deep is not None:
        levels = compare_levels(engine, reference, manifest.precision)
        sound = sound and levels.sound
        print(
            f"of {manifest.levels} levels in one run: {levels.agreement:.2%} of {levels.rows} rows,", end=" "
        )
        print(f"{levels.difference:.2g} of the scores' spread")
        times = levels_ms(engine), levels_ms(reference)
        print(f"{manifest.levels} levels a run: {times[0]:.3f} ms on the GPU, {times[1]:.3f} ms on the CPU")
    print("sound" if sound else "NOT SOUND: use --runtime onnxruntime, and report this with the lines above")
    return 0 if sound else 1


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m edgespec.tensorrt_engines.check ENGINE_DIR")
    try:
        sys.exit(main(Path(sys.argv[1])))
    except EdgespecError as error:
        sys.exit(f"edgespec: error: {error}")
