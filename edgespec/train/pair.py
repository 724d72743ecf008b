"""The bundled pair: a target of its own, then a draft and exits by the same stages that any target takes."""

from __future__ import annotations

import platform
from dataclasses import asdict, replace
from pathlib import Path

import torch

from edgespec.train import corpus
from edgespec.train.folders import is_finished, whole_folder, write_training
from edgespec.train.packing import Batches, Stream, pack
from edgespec.train.recipe import make_draft, make_exits, run_stage
from edgespec.train.run import Run
from edgespec.train.target import TARGET_SHAPE, Shape, TargetStage, build
from edgespec.train.tokenizer import save_tokenizer, train_tokenizer

DRAFT_SHAPE = Shape(layers=2, width=128, heads=4, key_value_heads=2, inner=352)
EXIT_LAYERS, EXIT_RANK = "4,6,8,10", 128
SHARES = (0.70, 0.20, 0.10)
"""The shares of target, draft and exits in a pair's minutes."""


def make_pair(folder: Path, run: Run) -> None:
    """Train all three folders of a pair below `folder`, except those that an earlier run finished."""
    target, draft, exits = folder / "target", folder / "draft", folder / "exits"
    for_target, for_draft, for_exits = (replace(run, minutes=share * run.minutes) for share in SHARES)
    if not is_finished(target):
        make_target(target, for_target)
    if not is_finished(draft):
        make_draft(draft, str(target), for_draft, DRAFT_SHAPE)
    if not is_finished(exits):
        make_exits(exits, str(target), for_exits, EXIT_LAYERS, EXIT_RANK)


def make_target(folder: Path, run: Run, shape: Shape = TARGET_SHAPE) -> None:
    """Train the bundled pair's tokenizer and target into `folder`."""
    with whole_folder(folder) as work:
        texts = corpus.collect(run.corpus)
        tokenizer = train_tokenizer((document.text for document in texts.train), shape.vocabulary)
        save_tokenizer(tokenizer, work, shape.context)
        tokens = pack(tokenizer, [document.text for document in texts.train])
        batches = Batches(Stream.of(tokens), 2 * run.batch_tokens, run.seed)
        stage = TargetStage(build(shape, run.seed, [0]), batches, shape.context)
        record = run_stage(stage, run, work)
        stage.model.to(torch.bfloat16).save_pretrained(work)
        facts = {
            "python": platform.python_version(),
            "train_files": len(texts.train),
            "train_bytes": sum(len(document.text.encode()) for document in texts.train),
            "train_tokens": len(tokens),
            "held_out_files": len(texts.held_out),
        }
        write_training(work, record, run.seed, shape=asdict(shape), corpus=facts)
