"""The stages: each trains, calibrates, measures and leaves a finished folder.

All of the target's own answers are had first, so that one copy of the target is in memory at a time.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from edgespec.core.calibration import TEMPERATURES
from edgespec.core.errors import EdgespecError
from edgespec.core.tokenizer import Tokenizer
from edgespec.engines.model_folder import find_folder
from edgespec.model.exits import ExitHeads, weights_sha256
from edgespec.model.target import Target
from edgespec.train import corpus, loop, measure
from edgespec.train.answers import Answer, answered, questions
from edgespec.train.data import Record, records
from edgespec.train.draft import DraftStage
from edgespec.train.draft_model import begin_draft, described
from edgespec.train.exits import ExitStage, exit_layers, exit_rank
from edgespec.train.folders import CHECKPOINT_FILE, same_run, whole_folder, write_training
from edgespec.train.lessons import Lessons
from edgespec.train.material import Material, gather, write_answers
from edgespec.train.packing import Batches
from edgespec.train.report import write_report
from edgespec.train.run import Run
from edgespec.train.target import Shape
from edgespec.train.teacher import Teacher

CALIBRATION_FILE = "calibration.json"
ANSWERS_FILE, MEASURED_FILE = "answers.jsonl", "measured.jsonl"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    "generation_config.json",
)
PROMPT_TOKENS = 96
"""Of a prompt that is cut from held-out text."""


@dataclass(frozen=True)
class Kit:
    """What a stage has at hand: the data in tokens, and the target's answers to held-out prompts."""

    material: Material
    answers: list[Answer]

    @classmethod
    def gather(cls, work: Path, target: str | None, run: Run) -> Kit:
        """Read the data and have the target answer, or take what an earlier run left in `work`."""
        same_run(
            work,
            target=str(target),
            data=[str(one) for one in run.data],
            seed=run.seed,
            self_generated=run.self_generated,
            measured=run.measured,
        )
        tokenizer = Tokenizer.load(find_folder(target))
        material = gather(source(run), tokenizer, work, run.max_tokens, run.self_generated)
        model = Target.load(target, exits=None, device=run.device)
        if run.self_generated:
            wanted, file = run.self_generated, work / ANSWERS_FILE
            write_answers(material, own_answers(model, material.asked, wanted, file, tokenizer, run))
        prompts = material.windows(run.measured, min(PROMPT_TOKENS, model.context_length // 2), run.seed)
        wanted, file = len(TEMPERATURES) * run.measured, work / MEASURED_FILE
        answers = own_answers(model, prompts, wanted, file, tokenizer, run)
        largest = int(material.stream.tokens.max())
        if largest >= model.vocabulary_size:
            raise EdgespecError(
                f"the tokenizer gives the id {largest}, and {model.name} has {model.vocabulary_size} tokens: put the "
                "target's own tokenizer into its folder."
            )
        return cls(material, answers)


def own_answers(
    model: Target, prompts: list[list[int]], count: int, file: Path, tokenizer: Tokenizer, run: Run
) -> list[Answer]:
    """`count` answers of the target to prompts in turn. Raises EdgespecError where no prompt leaves room for one."""
    room = model.context_length - run.new_tokens
    fit = [prompt for prompt in prompts if 0 < len(prompt) <= room]
    if not fit:
        raise EdgespecError(f"no prompt of the data leaves room for an answer of {run.new_tokens} tokens.")
    wanted = questions(fit, count, TEMPERATURES, run.seed)
    return answered(model, wanted, run.new_tokens, file, tokenizer, run.quiet)


def source(run: Run) -> Iterable[Record]:
    return records(run.data) if run.data else corpus.collect(run.corpus).records


def make_exits(
    folder: Path, target: str | None, run: Run, layers: str | None = None, rank: int | None = None
) -> dict[str, Any]:
    """Train and calibrate exit heads of the target into `folder`; returns how often they are right."""
    with whole_folder(folder) as work:
        kit = Kit.gather(work, target, run)
        teacher = Teacher(target, run.device, run.dtype)
        chosen, width = exit_layers(layers, teacher.layers), exit_rank(rank, teacher.width)
        batches, lessons, context = _lessons(kit, teacher, run, work, chosen)
        torch.manual_seed(run.seed)
        stage = ExitStage(teacher, batches, lessons, context, chosen, width, run.accumulate)
        record = run_stage(stage, run, work)
        heads = stage.heads()
        names = [str(layer) for layer in heads]
        fitted, judged = (
            measure.sights(
                measure.exit_scorer(teacher, heads),
                names,
                kit.answers,
                second,
                teacher.vocabulary_size,
                run.quiet,
            )
            for second in (False, True)
        )
        for layer, head in heads.items():
            head.calibration = measure.calibration({t: one[str(layer)] for t, one in fitted.items()})
        hashed = weights_sha256(teacher.folder)
        ExitHeads(heads, teacher.norm_epsilon, teacher.vocabulary_size, hashed).save(work)
        write_training(work, record, run.seed, layers=list(chosen), rank=width)
        calibrations = {f"after layer {layer}": head.calibration for layer, head in heads.items()}
        named = {
            t: {f"after layer {name}": one for name, one in found.items()} for t, found in judged.items()
        }
        title = f"Exits of {teacher.name}, {teacher.layers} layers"
        return write_report(work, title, named, calibrations, layers=list(chosen), rank=width)


def make_draft(
    folder: Path, target: str | None, run: Run, shape: str | Shape = "medium", init: str = "layers"
) -> dict[str, Any]:
    """Distil a draft of the target into `folder`, and calibrate it; returns how often it is right."""
    with whole_folder(folder) as work:
        kit = Kit.gather(work, target, run)
        teacher = Teacher(target, run.device, run.dtype)
        batches, lessons, context = _lessons(kit, teacher, run, work, ())
        begun = begin_draft(teacher, shape, init, teacher.model.context_length, run.seed)
        stage = DraftStage(
            begun.model,
            teacher,
            batches,
            lessons,
            context,
            rate_share=begun.rate_share,
            accumulate=run.accumulate,
        )
        record = run_stage(stage, run, work)
        stage.model.to("cpu", torch.bfloat16).save_pretrained(work)
        for name in TOKENIZER_FILES:
            if (teacher.folder / name).is_file():
                shutil.copyfile(teacher.folder / name, work / name)
        scorer = measure.draft_scorer(load_draft(work).to(teacher.device))
        fitted, judged = (
            measure.sights(scorer, ["draft"], kit.answers, second, teacher.vocabulary_size, run.quiet)
            for second in (False, True)
        )
        calibration = measure.calibration({t: one["draft"] for t, one in fitted.items()})
        text = json.dumps(calibration.to_json()) + "\n"
        (work / CALIBRATION_FILE).write_text(text, encoding="utf-8")
        sizes = described(begun.model)
        write_training(work, record, run.seed, shape=sizes, target_sha256=weights_sha256(teacher.folder))
        title = f"A draft of {teacher.name}"
        return write_report(work, title, judged, {"draft": calibration}, shape=sizes)


def load_draft(folder: Path) -> torch.nn.Module:
    """The draft in `folder`, in float32."""
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


def _lessons(
    kit: Kit, teacher: Teacher, run: Run, work: Path, layers: tuple[int, ...]
) -> tuple[Batches, Lessons, int]:
    batches = Batches(kit.material.stream, run.batch_tokens, run.seed + 1)
    lessons = Lessons(teacher, batches, layers, work / "hidden.bin", run.cache_mib << 20, run.seed)
    return batches, lessons, min(run.window_tokens, teacher.model.context_length)


def run_stage(stage: Any, run: Run, work: Path) -> loop.Record:
    budget = loop.Budget(run.minutes, run.max_steps)
    return loop.train(stage, budget, work / CHECKPOINT_FILE, run.quiet)
