"""The figures of a finished pair, measured from its folders and from nothing else.

Half of the answers to held-out prompts fitted the calibrations; every figure here comes from the other half and from
held-out text, so none is measured on what it was fitted to."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgespec.core.calibration import Calibration
from edgespec.core.whole_files import sha256_of
from edgespec.model.exits import ExitHeads
from edgespec.train import corpus, measure, report
from edgespec.train.answers import Answer
from edgespec.train.folders import read_training
from edgespec.train.packing import pack
from edgespec.train.recipe import CALIBRATION_FILE, Kit, load_draft
from edgespec.train.run import Run
from edgespec.train.target import Shape
from edgespec.train.teacher import Teacher
from edgespec.train.tokenizer import load_tokenizer

FIGURES_FILE = "figures.json"
TEXT_TEMPERATURES = (0.0, 0.8)
_TEXT_WINDOW, _TEXT_START = 512, 64
_MOST_LOSS_TOKENS = 100_000


def measure_pair(pair: Path, run: Run) -> dict[str, Any]:
    """Every figure of the pair in `pair` (its folders target, draft and exits), ready for json.dump."""
    with tempfile.TemporaryDirectory() as work:
        kit = Kit.gather(Path(work), str(pair / "target"), run)
    teacher, draft = Teacher(str(pair / "target"), run.device, run.dtype), load_draft(pair / "draft")
    heads = ExitHeads.load(pair / "exits")
    texts = [document.text for document in corpus.collect(run.corpus).held_out]
    held_out = pack(load_tokenizer(pair / "target"), texts)
    bits_a_nat = len(held_out) / sum(len(text.encode()) for text in texts) / math.log(2)
    shapes = {name: Shape(**read_training(pair / name)["shape"]) for name in ("target", "draft")}
    names = ["draft", *(str(layer) for layer in heads.layers)]
    scorers = [measure.draft_scorer(draft), measure.exit_scorer(teacher, heads.heads)]
    own = measure.sights(_all(scorers), names, kit.answers, True, teacher.vocabulary_size, run.quiet)
    text = _on_text(teacher, scorers, names, held_out, run)

    def agreement(name: str, calibration: Calibration) -> dict[str, Any]:
        return {
            kind: report.cells(seen, name, calibration) for kind, seen in (("own", own), ("held_out", text))
        }

    def model_figures(name: str, model: Any, score: measure.Scorer) -> dict[str, Any]:
        nats = loss(score, held_out)
        return {
            "training": read_training(pair / name),
            "parameters": model.num_parameters(),
            "multiplications_a_token": shapes[name].multiplications(),
            "held_out": {"nats_a_token": nats, "bits_a_byte": nats * bits_a_nat},
        }

    calibration = json.loads((pair / "draft" / CALIBRATION_FILE).read_text(encoding="utf-8"))
    return {
        "target": model_figures("target", teacher.model.module, measure.target_scorer(teacher)),
        "draft": {
            **model_figures("draft", draft, scorers[0]),
            "agreement": agreement("draft", Calibration.from_json(calibration)),
        },
        "exits": {
            "training": read_training(pair / "exits"),
            "layers": list(heads.layers),
            "rank": heads.rank,
            "agreement": {
                str(layer): agreement(str(layer), heads.calibration(layer)) for layer in heads.layers
            },
        },
        "work_ratio": shapes["target"].multiplications() / shapes["draft"].multiplications(),
        "files": _files(pair),
    }


def _files(pair: Path) -> dict[str, Any]:
    paths = sorted(path for name in ("target", "draft", "exits") for path in (pair / name).iterdir())
    return {
        path.relative_to(pair).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in paths
    }


@torch.no_grad()
def loss(score: measure.Scorer, stream: np.ndarray[Any, Any]) -> float:
    """Mean next-token loss in nats over windows of a stream, of the one guesser of `score`."""
    losses = []
    for start in range(0, min(len(stream), _MOST_LOSS_TOKENS) - 1, _TEXT_WINDOW):
        window = torch.from_numpy(stream[start : start + _TEXT_WINDOW].astype(np.int64))
        (logits,) = score(window[None], slice(0, len(window) - 1))
        losses.append(torch.nn.functional.cross_entropy(logits.float().cpu(), window[1:], reduction="none"))
    return float(torch.cat(losses).mean())


def _on_text(
    teacher: Teacher,
    scorers: list[measure.Scorer],
    names: list[str],
    held_out: np.ndarray[Any, Any],
    run: Run,
) -> dict[float, dict[str, measure.Sight]]:
    """Sights on held-out text, where the target draws at every position but does not write."""
    count = max(2, run.measured // 3)
    starts = np.linspace(0, max(0, len(held_out) - _TEXT_WINDOW), count).astype(int)
    windows = [held_out[start : start + _TEXT_WINDOW].tolist() for start in starts]
    score = _all([measure.target_scorer(teacher), *scorers])
    return {
        temperature: measure.observe(
            score,
            [measure.TARGET, *names],
            [
                Answer(one[:_TEXT_START], temperature, seed, one[_TEXT_START:])
                for seed, one in enumerate(windows)
            ],
            teacher.vocabulary_size,
        )
        for temperature in TEXT_TEMPERATURES
    }


def _all(scorers: list[measure.Scorer]) -> measure.Scorer:
    def score(text: torch.Tensor, rows: slice) -> Iterator[torch.Tensor]:
        for one in scorers:
            yield from one(text, rows)

    return score
