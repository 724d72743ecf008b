"""A compiled draft's calibration, fitted on the target's own answers to a user's prompts; nothing is trained."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgespec.core.calibration import TEMPERATURES
from edgespec.core.errors import EdgespecError
from edgespec.core.noise import NoiseRows
from edgespec.core.slots import SlotMap
from edgespec.core.tokenizer import Tokenizer
from edgespec.core.tree import DraftTree
from edgespec.core.whole_files import save_json, sha256_of
from edgespec.engines.draft_engine import DraftEngine, load_draft
from edgespec.engines.manifest import CALIBRATION_FILE, EngineManifest
from edgespec.engines.model_folder import find_folder
from edgespec.model.target import Target
from edgespec.train.answers import Answer
from edgespec.train.folders import same_run
from edgespec.train.material import gather
from edgespec.train.measure import Sight, calibration, half
from edgespec.train.recipe import MEASURED_FILE, own_answers, source
from edgespec.train.report import Cells, cells
from edgespec.train.run import Run

ROWS_AT_ONCE = 128


def calibrate(folder: Path, target: str | None, run: Run) -> Cells:
    """Replace the calibration of the engine in `folder`; returns how often the draft is right, by temperature, on the
    half of the answers that the calibration was not fitted to. Raises EdgespecError."""
    engine, files = load_draft(folder), find_folder(target)
    tokenizer = Tokenizer.load(files)
    if engine.vocabulary_hash != tokenizer.vocabulary_hash:
        raise EdgespecError(
            f"the draft in {folder} has another vocabulary than {files.name}: train one for it with "
            "`edgespec train draft`."
        )
    work = folder.with_name(folder.name + ".unfinished")
    work.mkdir(exist_ok=True)
    same_run(
        work, target=str(target), data=[str(one) for one in run.data], seed=run.seed, measured=run.measured
    )
    material = gather(source(run), tokenizer, work, run.max_tokens, run.measured)
    prompts = [*material.asked, *material.prompts][: run.measured]
    model = Target.load(target, exits=None, device=run.device)
    wanted = len(TEMPERATURES) * run.measured
    answers = own_answers(model, prompts, wanted, work / MEASURED_FILE, tokenizer, run)
    fitted, judged = (
        {t: {"draft": engine_sight(engine, own)} for t, own in half(answers, second).items()}
        for second in (False, True)
    )
    found = calibration({t: one["draft"] for t, one in fitted.items()})
    save_json(found.to_json(), folder / CALIBRATION_FILE)
    manifest = EngineManifest.read(folder)
    hashes = {**manifest.files, CALIBRATION_FILE: sha256_of(folder / CALIBRATION_FILE)}
    replace(manifest, files=hashes).save(folder)
    shutil.rmtree(work)
    return cells(judged, "draft", found)


def engine_sight(engine: DraftEngine, answers: Sequence[Answer]) -> Sight:
    """How well the engine foresees the answers' tokens under the noise that they were drawn with."""
    noise = NoiseRows(engine.vocabulary_size)
    seen = [_foreseen(engine, noise, one) for one in answers if len(one.prompt) < engine.capacity]
    if not seen:
        raise EdgespecError("no prompt of the data is shorter than the engine's longest text.")
    margins, correct = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    return Sight(margins, correct, tuple(len(one) for one, _ in seen))


def _foreseen(
    engine: DraftEngine, noise: NoiseRows, answer: Answer
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Margins float64 [N] and correct bool [N, ranks] of the answer's N tokens that fit the engine."""
    text, first = np.array(answer.text[: engine.capacity]), len(answer.prompt)
    slots, tree = SlotMap(engine.capacity), DraftTree(len(text))
    engine.reset()
    margins, correct = [], []
    for end in range(0, len(text) - 1, ROWS_AT_ONCE):
        piece = slots.plan(text.tolist(), min(end + ROWS_AT_ONCE, len(text) - 1), tree, [])
        decide = np.flatnonzero(piece.positions >= first - 1).astype(np.int32)
        positions = piece.positions[decide] + 1
        if answer.temperature and len(decide):
            drawn, which = noise.rows(answer.seed, positions)
            rows = np.zeros(len(piece), dtype=np.int32)
            rows[decide] = which
            ids, scores = engine.run(piece, drawn, rows, 1 / answer.temperature, decide)
        else:
            ids, scores = engine.run(piece, None, None, 1.0, decide)
        margins.append((scores[:, 0] - scores[:, 1]).astype(np.float64))
        correct.append(ids == text[positions, None])
    return np.concatenate(margins), np.concatenate(correct)
