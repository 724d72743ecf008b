"""The driving pair's recipe: the target sees, then answers; then a draft with eyes and one without learn from it."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import Qwen2VLForConditionalGeneration

from edgespec.core.whole_files import save_json
from edgespec.train.folders import CHECKPOINT_FILE, SIGHT_FILE, is_finished, whole_folder, write_training
from edgespec.train.recipe import run_stage
from edgespec.train.robot.conversation import Conversations
from edgespec.train.robot.lessons import Scenes, draw_scene
from edgespec.train.robot.shape import FRAMES, MERGE, PATCH, SeeingShape, build
from edgespec.train.robot.sight import DEVIATION, MEAN, CellHead
from edgespec.train.robot.stages import AnswerStage, SightStage
from edgespec.train.robot.words import prompt_words, save_tokenizer, train_tokenizer
from edgespec.train.run import Run
from edgespec.train.tokenizer import load_tokenizer

TARGET_SHAPE = SeeingShape(
    layers=3, width=128, heads=4, key_value_heads=2, inner=320, sight_layers=3, sight_width=96
)
DRAFT_SHAPE = SeeingShape(
    layers=2, width=64, heads=2, key_value_heads=1, inner=160, sight_layers=2, sight_width=64
)
SHARES = {"target": (0.25, 0.50), "draft": (0.08, 0.12), "blind": (0.0, 0.05)}
"""Of the run's minutes: what each model's sight and answers take."""

TOKENIZER_SCENES = 1200


def make_robot(folder: Path, run: Run) -> None:
    """Train what an earlier run did not finish below `folder`: `target`, `draft` (with eyes) and `blind` (without)."""
    target = folder / "target"
    for name, shape in (("target", TARGET_SHAPE), ("draft", DRAFT_SHAPE), ("blind", DRAFT_SHAPE)):
        if not is_finished(folder / name):
            teacher = None if name == "target" else load(target)
            _make_model(folder / name, shape, run, SHARES[name], teacher, target)


def load(folder: Path) -> Any:
    """The model in `folder`, float32, ready to be asked."""
    model: Any = Qwen2VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def _make_model(
    folder: Path, shape: SeeingShape, run: Run, shares: tuple[float, float], teacher: Any, target: Path
) -> None:
    with whole_folder(folder) as work:
        tokenizer = _tokenizer(run.seed) if teacher is None else load_tokenizer(target)
        save_tokenizer(tokenizer, work, shape.context)
        model, head = build(shape, tokenizer, run.seed), CellHead(shape.width)
        scenes = Scenes(run.seed + 1)
        to_see, to_answer = (replace(run, minutes=share * run.minutes) for share in shares)
        if to_see.minutes:
            _learn_to_see(model, head, scenes, to_see, work)
        stage = AnswerStage(
            model, head, Conversations(tokenizer), scenes, teacher=teacher, blind=not to_see.minutes
        )
        record = run_stage(stage, to_answer, work)
        model.to(torch.bfloat16).save_pretrained(work)
        save_processor(work)
        write_training(work, record, run.seed, shape=asdict(shape), sight_minutes=to_see.minutes)


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
