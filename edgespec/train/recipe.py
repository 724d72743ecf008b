"""The stages joined: each reads what the one before left, trains, calibrates and leaves a finished folder."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM

from edgespec.model.exits import ExitHead, ExitHeads, adapt, weights_sha256
from edgespec.train import corpus as corpus_module
from edgespec.train import loop, measure
from edgespec.train.draft import DRAFT_SHAPE, DraftStage
from edgespec.train.exits import EXIT_LAYERS, RANK, ExitStage
from edgespec.train.folders import CHECKPOINT_FILE, is_finished, whole_folder, write_training
from edgespec.train.packing import Stream, pack
from edgespec.train.stage import Stage
from edgespec.train.target import TARGET_SHAPE, Shape, TargetStage, save_model
from edgespec.train.teacher import Teacher
from edgespec.train.tokenizer import load_tokenizer, save_tokenizer, train_tokenizer

CALIBRATION_FILE = "calibration.json"

SHARES = (0.70, 0.20, 0.10)
"""The shares of target, draft and exits in a pair's minutes."""


@dataclass(frozen=True)
class Run:
    """The options that all stages of a run share."""

    corpus: Path | None = None
    seed: int = 0
    most_steps: int | None = None
    quiet: bool = False
    sample: measure.Sample = field(default_factory=measure.Sample)

    def train(self, stage: Stage, minutes: float, folder: Path) -> loop.Record:
        """Train with a checkpoint in `folder`."""
        return loop.train(stage, loop.Budget(minutes, self.most_steps), folder / CHECKPOINT_FILE, self.quiet)


def make_target(folder: Path, minutes: float, run: Run, shape: Shape = TARGET_SHAPE) -> None:
    """Train the tokenizer and the target into `folder`."""
    with whole_folder(folder) as unfinished:
        texts = corpus_module.collect(run.corpus)
        tokenizer = train_tokenizer((document.text for document in texts.train), shape.vocabulary)
        save_tokenizer(tokenizer, unfinished, shape.context)
        stream = pack(tokenizer, texts.train)
        stage = TargetStage(shape, stream, run.seed)
        record = run.train(stage, minutes, unfinished)
        save_model(stage.model, unfinished)
        facts = {
            "python": platform.python_version(),
            "train_files": len(texts.train),
            "train_bytes": sum(len(document.text.encode()) for document in texts.train),
            "train_tokens": len(stream),
            "held_out_files": len(texts.held_out),
        }
        write_training(unfinished, record, run.seed, shape=asdict(shape), corpus=facts)


def make_draft(folder: Path, target: Path, minutes: float, run: Run, shape: Shape = DRAFT_SHAPE) -> None:
    """Distil a draft of the target in `target` into `folder`, and calibrate it."""
    with whole_folder(folder) as unfinished:
        teacher = Teacher.load(target)
        tokenizer, stream, held_out = streams(target, run)
        save_tokenizer(tokenizer, unfinished, shape.context)
        stage = DraftStage(shape, teacher, stream, run.seed)
        record = run.train(stage, minutes, unfinished)
        save_model(stage.model, unfinished)
        scorer = measure.draft_scorer(load_draft(unfinished))
        (calibration,) = measure.calibrations(teacher, scorer, ["draft"], held_out, run.sample).values()
        text = json.dumps(calibration.to_json()) + "\n"
        (unfinished / CALIBRATION_FILE).write_text(text, encoding="utf-8")
        facts = {"shape": asdict(shape), "target_sha256": weights_sha256(target)}
        write_training(unfinished, record, run.seed, **facts)


def make_exits(
    folder: Path,
    target: Path,
    minutes: float,
    run: Run,
    layers: tuple[int, ...] = EXIT_LAYERS,
    rank: int = RANK,
) -> None:
    """Train and calibrate exit heads of the target in `target` into `folder`."""
    with whole_folder(folder) as unfinished:
        teacher = Teacher.load(target)
        _, stream, held_out = streams(target, run)
        stage = ExitStage(teacher, stream, run.seed, layers, rank)
        record = run.train(stage, minutes, unfinished)
        heads = stage.heads()
        scorer = exit_scorer(teacher, heads)
        found = measure.calibrations(teacher, scorer, [str(layer) for layer in heads], held_out, run.sample)
        for layer, head in heads.items():
            head.calibration = found[str(layer)]
        trained = ExitHeads(heads, teacher.norm_epsilon, teacher.vocabulary_size, weights_sha256(target))
        trained.save(unfinished)
        write_training(unfinished, record, run.seed, layers=list(layers), rank=rank)


def make_pair(folder: Path, minutes: float, run: Run) -> None:
    """Train all three folders of a pair below `folder`, except those that an earlier run finished."""
    target, draft, exits = folder / "target", folder / "draft", folder / "exits"
    for_target, for_draft, for_exits = (share * minutes for share in SHARES)
    if not is_finished(target):
        make_target(target, for_target, run)
    if not is_finished(draft):
        make_draft(draft, target, for_draft, run)
    if not is_finished(exits):
        make_exits(exits, target, for_exits, run)


def streams(target: Path, run: Run) -> tuple[Tokenizer, Stream, Stream]:
    """The target's tokenizer, and both splits of the corpus in its tokens."""
    tokenizer = load_tokenizer(target)
    texts = corpus_module.collect(run.corpus)
    return tokenizer, pack(tokenizer, texts.train), pack(tokenizer, texts.held_out)


def load_draft(folder: Path) -> torch.nn.Module:
    """The draft in `folder`, in float32."""
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def exit_scorer(teacher: Teacher, heads: dict[int, ExitHead]) -> measure.Scorer:
    """Exit heads as the guessers of `measure.observe`, one at a time to spare memory."""

    def score(batch: torch.Tensor) -> Iterator[torch.Tensor]:
        _, taps = teacher.hidden(batch, tuple(heads))
        for layer, head in heads.items():
            down, up, norm = (part.float() for part in (head.down, head.up, head.norm))
            yield teacher.logits(adapt(taps[layer].float(), down, up, norm, teacher.norm_epsilon))

    return score
