"""The figures of a finished pair, measured from its folders and from nothing else.

Half of the held-out prompts fitted the calibrations; every figure here comes from the other half and
from held-out text, so none is measured on what it was fitted to.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch

from edgespec.core.calibration import Calibration
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


def measure_pair(pair: Path, run: Run) -> dict[str, Any]:
    """Every figure of the pair in `pair` (its folders target, draft and exits), ready for json.dump."""
    teacher = Teacher.load(pair / "target")
    draft = load_draft(pair / "draft")
    heads = ExitHeads.load(pair / "exits")
    calibrations = {
        "draft": _read_calibration(pair / "draft"),
        **{str(layer): heads.calibration(layer) for layer in heads.layers},
    }
    held_out_documents = corpus_module.collect(run.corpus).held_out
    held_out = pack(load_tokenizer(pair / "target"), held_out_documents)
    tokens_a_byte = len(held_out) / sum(len(document.text.encode()) for document in held_out_documents)
    sights = _sights(teacher, draft, heads, held_out, run)
    target_shape, draft_shape = (_shape(pair / name) for name in ("target", "draft"))
    return {
        "target": {
            "training": read_training(pair / "target"),
            "parameters": teacher.model.num_parameters(),
            "multiplications_a_token": target_shape.multiplications(),
            "held_out": _losses(_target_scorer(teacher), held_out, tokens_a_byte),
        },
        "draft": {
            "training": read_training(pair / "draft"),
            "parameters": sum(parameter.numel() for parameter in draft.parameters()),
            "multiplications_a_token": draft_shape.multiplications(),
            "held_out": _losses(measure.draft_scorer(draft), held_out, tokens_a_byte),
            "agreement": _agreement(sights, "draft", calibrations["draft"]),
        },
        "exits": {
            "training": read_training(pair / "exits"),
            "layers": list(heads.layers),
            "rank": heads.rank,
            "agreement": {
                str(layer): _agreement(sights, str(layer), calibrations[str(layer)]) for layer in heads.layers
            },
        },
        "work_ratio": target_shape.multiplications() / draft_shape.multiplications(),
        "files": _files(pair),
    }


_Sights = dict[tuple[str, float], dict[str, measure.Sight]]
"""By the kind of text ("own" or "held_out") and temperature, each guesser's sight."""


def _sights(
    teacher: Teacher, draft: torch.nn.Module, heads: ExitHeads, held_out: Stream, run: Run
) -> _Sights:
    draft_scorer, exit_heads = measure.draft_scorer(draft), exit_scorer(teacher, heads.heads)
    names = ["draft", *(str(layer) for layer in heads.layers)]

    def guessers(batch: torch.Tensor) -> Any:
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
        found[kind][str(temperature)] = {
            "rate": sight.rate,
            "fifths": sight.fifths(),
            "ranks": sight.rank_rates(),
            "calibration_error": measure.calibration_error(calibration, sight, temperature),
            "positions": len(sight.margins),
            "reliability": measure.reliability(calibration, sight, temperature),
        }
    return found


def _losses(score: measure.Scorer, held_out: Stream, tokens_a_byte: float) -> dict[str, float]:
    nats = measure.loss(score, held_out, _TEXT_WINDOW)
    return {"nats_a_token": nats, "bits_a_byte": nats * tokens_a_byte / math.log(2)}


def _target_scorer(teacher: Teacher) -> measure.Scorer:
    return lambda batch: [teacher.logits(teacher.hidden(batch)[0])]


def _read_calibration(folder: Path) -> Calibration:
    return Calibration.from_json(json.loads((folder / CALIBRATION_FILE).read_text(encoding="utf-8")))


def _shape(folder: Path) -> Shape:
    return Shape(**read_training(folder)["shape"])


def _files(pair: Path) -> dict[str, dict[str, Any]]:
    """Size in bytes and sha256 of every file of the three folders."""
    paths = sorted(path for name in ("target", "draft", "exits") for path in (pair / name).iterdir())
    return {
        path.relative_to(pair).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in paths
    }
