"""The driving pair's recipe: the target sees, then answers; then drafts without and with eyes learn from it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from edgespec.core.whole_files import save_json
from edgespec.train import measure
from edgespec.train.answers import Answer
from edgespec.train.folders import CHECKPOINT_FILE, SIGHT_FILE, is_finished, whole_folder, write_training
from edgespec.train.recipe import CALIBRATION_FILE, run_stage
from edgespec.train.robot.card import write_card
from edgespec.train.robot.conversation import Conversations
from edgespec.train.robot.lessons import Scenes, draw_scene
from edgespec.train.robot.measure import answers, load, seeing_scorer
from edgespec.train.robot.shape import FRAMES, MERGE, PATCH, SeeingShape, build, build_blind
from edgespec.train.robot.sight import DEVIATION, MEAN, CellHead
from edgespec.train.robot.stages import AnswerStage, BlindStage, SightStage
from edgespec.train.robot.words import prompt_words, save_tokenizer, train_tokenizer
from edgespec.train.run import Run
from edgespec.train.tokenizer import load_tokenizer

TARGET_SHAPE = SeeingShape(
    layers=3, width=128, heads=4, key_value_heads=2, inner=320, sight_layers=3, sight_width=96
)
DRAFT_SHAPE = SeeingShape(
    layers=2, width=96, heads=3, key_value_heads=1, inner=192, sight_layers=2, sight_width=64
)
SIGHT, ANSWERS, BLIND, DRAFT_SIGHT, DRAFT = 0.25, 0.50, 0.06, 0.07, 0.12
"""Shares of the run's minutes: the target's sight and answers, the draft without eyes, and the one with eyes."""

TOKENIZER_SCENES, CALIBRATION_SCENES = 1200, 200


def make_robot(folder: Path, run: Run) -> None:
    """Train what an earlier run did not finish below `folder`: `target`, `blind` (a draft of text alone) and `draft`
    (one with eyes); then measure them and write their card."""
    target = folder / "target"
    if not is_finished(target):
        _make_seeing(target, TARGET_SHAPE, _of(run, SIGHT), _of(run, ANSWERS), None)
    if not is_finished(folder / "blind"):
        _make_blind(folder / "blind", target, _of(run, BLIND))
    if not is_finished(folder / "draft"):
        _make_seeing(folder / "draft", DRAFT_SHAPE, _of(run, DRAFT_SIGHT), _of(run, DRAFT), target)
    write_card(folder)


def _make_seeing(folder: Path, shape: SeeingShape, to_see: Run, to_answer: Run, target: Path | None) -> None:
    """A model that sees. target: the one whose draft it becomes; None: it is the target."""
    with whole_folder(folder) as work:
        tokenizer = _tokenizer(to_see.seed) if target is None else load_tokenizer(target)
        save_tokenizer(tokenizer, work, shape.context)
        model, head = build(shape, tokenizer, to_see.seed), CellHead(shape.width)
        scenes = Scenes(to_see.seed + 1)
        _learn_to_see(model, head, scenes, to_see, work)
        teacher = None if target is None else load(target)
        stage = AnswerStage(model, head, Conversations(tokenizer), scenes, teacher)
        record = run_stage(stage, to_answer, work)
        if teacher is not None:
            _calibrate(model.eval(), teacher, Conversations(tokenizer), scenes, work, sees=True)
        model.to(torch.bfloat16).save_pretrained(work)
        save_processor(work)
        write_training(work, record, to_see.seed, shape=asdict(shape), sight_minutes=to_see.minutes)


def _make_blind(folder: Path, target: Path, run: Run) -> None:
    with whole_folder(folder) as work:
        tokenizer = load_tokenizer(target)
        save_tokenizer(tokenizer, work, DRAFT_SHAPE.context)
        model, teacher = build_blind(DRAFT_SHAPE, tokenizer, run.seed), load(target)
        conversations, scenes = Conversations(tokenizer), Scenes(run.seed + 2)
        record = run_stage(BlindStage(model, teacher, conversations, scenes), run, work)
        _calibrate(model.eval(), teacher, conversations, scenes, work, sees=False)
        model.to(torch.bfloat16).save_pretrained(work)
        write_training(work, record, run.seed, shape=asdict(DRAFT_SHAPE))


def _calibrate(
    draft: Any, teacher: Any, conversations: Conversations, scenes: Scenes, work: Path, sees: bool
) -> None:
    """How sure the draft may be of its guesses at T = 0, by answers that the target gave."""
    drawn = scenes.next(CALIBRATION_SCENES)
    requests = [scenes.ask(scene)[0] for scene in drawn]
    said = answers(teacher, conversations, [scene.picture for scene in drawn], requests)
    given = [
        Answer(conversations.prompt(request), 0.0, 0, tokens)
        for request, tokens in zip(requests, said, strict=True)
    ]
    score = seeing_scorer(draft, conversations, drawn) if sees else measure.draft_scorer(draft)
    seen = measure.observe(score, ["draft"], given, conversations.tokenizer.get_vocab_size())
    save_json(measure.calibration({0.0: seen["draft"]}).to_json(), work / CALIBRATION_FILE)


def _of(run: Run, share: float) -> Run:
    return replace(run, minutes=share * run.minutes)


def _tokenizer(seed: int) -> Tokenizer:
    rng = np.random.default_rng(seed)
    asked = (draw_scene(rng).ask(rng) for _ in range(TOKENIZER_SCENES))
    return train_tokenizer([*prompt_words(), *(text for pair in asked for text in pair)])


def _learn_to_see(model: Any, head: CellHead, scenes: Scenes, run: Run, work: Path) -> None:
    stage, done = SightStage(model.model.visual, head, scenes), work / SIGHT_FILE
    if done.is_file():
        stage.model.load_state_dict(torch.load(done, weights_only=True))
        return
    run_stage(stage, run, work)
    torch.save(stage.model.state_dict(), done)
    (work / CHECKPOINT_FILE).unlink(missing_ok=True)


def save_processor(folder: Path) -> None:
    """preprocessor_config.json, as transformers expects it."""
    save_json(
        {
            "image_processor_type": "Qwen2VLImageProcessor",
            "processor_class": "Qwen2VLProcessor",
            "do_resize": False,
            "patch_size": PATCH,
            "merge_size": MERGE,
            "temporal_patch_size": FRAMES,
            "image_mean": MEAN.tolist(),
            "image_std": DEVIATION.tolist(),
            "min_pixels": PATCH * PATCH * MERGE * MERGE,
            "max_pixels": 1 << 20,
        },
        folder / "preprocessor_config.json",
    )
