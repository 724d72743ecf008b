"""The figures of a finished pair, measured from its folders and from nothing else.

Half of the held-out prompts fitted the calibrations; every figure here comes from the other half and from held-out
text, so none is measured on what it was fitted to."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgespec.core.calibration import Calibration, expected_calibration_error
from edgespec.model.exits import ExitHeads, sha256_of
from edgespec.train import corpus as corpus_module
from edgespec.train import measure
from edgespec.train.folders import read_training
from edgespec.train.packing import Stream, pack
from edgespec.train.recipe import CALIBRATION_FILE, Run, exit_scorer, load_draft
from edgespec.train.target import Shape
from edgespec.train.teacher import Teacher
from edgespec.train.tokenizer import load_tokenizer

FIGURES_FILE = "figures.json"
TEXT_TEMPERATURES = (0.0, 0.8)
_TEXT_WINDOW = 512
_TEXT_START = 64
_BINS = 10

_Sights = dict[tuple[str, float], dict[str, measure.Sight]]
"""By the kind of text ("own" or "held_out") and temperature, each guesser's sight."""


def measure_pair(pair: Path, run: Run) -> dict[str, Any]:
    """Every figure of the pair in `pair` (its folders target, draft and exits), ready for json.dump."""
    teacher, draft = Teacher.load(pair / "target"), load_draft(pair / "draft")
    heads = ExitHeads.load(pair / "exits")
    documents = corpus_module.collect(run.corpus).held_out
    held_out = pack(load_tokenizer(pair / "target"), documents)
    tokens_a_byte = len(held_out) / sum(len(document.text.encode()) for document in documents)
    shapes = {name: Shape(**read_training(pair / name)["shape"]) for name in ("target", "draft")}
    sights = _sights(teacher, draft, heads, held_out, run)
    draft_calibration = json.loads((pair / "draft" / CALIBRATION_FILE).read_text(encoding="utf-8"))

    def model_figures(name: str, model: Any, score: measure.Scorer) -> dict[str, Any]:
        nats = measure.loss(score, held_out, _TEXT_WINDOW)
        return {
            "training": read_training(pair / name),
            "parameters": model.num_parameters(),
            "multiplications_a_token": shapes[name].multiplications(),
            "held_out": {"nats_a_token": nats, "bits_a_byte": nats * tokens_a_byte / math.log(2)},
        }

    return {
        "target": model_figures(
            "target", teacher.model, lambda batch: [teacher.logits(teacher.hidden(batch)[0])]
        ),
        "draft": {
            **model_figures("draft", draft, measure.draft_scorer(draft)),
            "agreement": _agreement(sights, "draft", Calibration.from_json(draft_calibration)),
        },
        "exits": {
            "training": read_training(pair / "exits"),
            "layers": list(heads.layers),
            "rank": heads.rank,
            "agreement": {
                str(layer): _agreement(sights, str(layer), heads.calibration(layer)) for layer in heads.layers
            },
        },
        "work_ratio": shapes["target"].multiplications() / shapes["draft"].multiplications(),
        "files": {
            path.relative_to(pair).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
            for path in sorted(
                path for name in ("target", "draft", "exits") for path in (pair / name).iterdir()
            )
        },
    }


def _sights(
    teacher: Teacher, draft: torch.nn.Module, heads: ExitHeads, held_out: Stream, run: Run
) -> _Sights:
    draft_scorer, exit_heads = measure.draft_scorer(draft), exit_scorer(teacher, heads.heads)
    names = ["draft", *(str(layer) for layer in heads.layers)]

    def guessers(batch: torch.Tensor) -> Iterator[torch.Tensor]:
        yield from draft_scorer(batch)
        yield from exit_heads(batch)

    def observe(texts: measure.Texts, temperature: float) -> dict[str, measure.Sight]:
        return measure.observe(teacher, guessers, names, texts, temperature, run.seed + 1)

    sights: _Sights = {}
    for temperature, texts in measure.own_texts(teacher, held_out, run.sample):
        sights["own", temperature] = observe(texts.half(second=True), temperature)
    windows = measure.prompts(held_out, max(2, run.sample.prompts // 3), _TEXT_WINDOW, run.seed + 1)
    for temperature in TEXT_TEMPERATURES:
        sights["held_out", temperature] = observe(measure.Texts(windows, _TEXT_START), temperature)
    return sights


def _agreement(sights: _Sights, name: str, calibration: Calibration) -> dict[str, dict[str, Any]]:
    """How often this guesser's best token is the target's draw: by kind of text and temperature."""
    found: dict[str, dict[str, Any]] = {"own": {}, "held_out": {}}
    for (kind, temperature), seen in sights.items():
        sight = seen[name]
        stated = np.asarray(calibration.probability(sight.margins, temperature))
        by_margin = np.argsort(sight.margins, kind="stable")
        found[kind][str(temperature)] = {
            "rate": sight.rate,
            "fifths": [float(sight.correct[part, 0].mean()) for part in np.array_split(by_margin, 5)],
            "ranks": sight.correct.mean(axis=0).tolist(),
            "calibration_error": expected_calibration_error(stated, sight.correct[:, 0]),
            "positions": len(sight.margins),
            "reliability": reliability(stated, sight.correct[:, 0]),
        }
    return found


def reliability(stated: np.ndarray[Any, Any], correct: np.ndarray[Any, Any]) -> list[list[float]]:
    """A reliability diagram: over equally filled bins, the mean stated probability, how often it came true, the
    count."""
    order = np.argsort(stated, kind="stable")
    return [
        [round(float(stated[part].mean()), 4), round(float(correct[part].mean()), 4), len(part)]
        for part in np.array_split(order, _BINS)
        if len(part)
    ]
