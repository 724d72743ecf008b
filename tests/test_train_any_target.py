"""`edgespec train exits` and `train draft` on targets of other families than the bundled one, on a CPU and a GPU."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from trainable import FAMILIES, chat_rows, save_target, sentence

from edgespec.engines.compiling import compile
from edgespec.engines.draft_engine import load_draft
from edgespec.model.target import Target
from edgespec.train.recipe import make_draft, make_exits
from edgespec.train.run import Run

DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")],
    ),
]


def run(data: Path, device: str = "cpu", **more: object) -> Run:
    quick = {"max_steps": 4, "measured": 4, "new_tokens": 12, "batch_tokens": 256, "cache_mib": 1}
    return Run((data,), device=device, quiet=True, **(quick | more))  # type: ignore[arg-type]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("family", FAMILIES)
def test_exits_of_any_family_are_trained_and_served(family: str, device: str, tmp_path: Path) -> None:
    target = save_target(tmp_path / "target", family)
    data = chat_rows(tmp_path / "chat.jsonl")
    found = make_exits(tmp_path / "exits", str(target), run(data, device, accumulate=2))
    assert list(found) == ["after layer 1", "after layer 2", "after layer 3"]
    assert 0 <= found["after layer 3"]["0.8"]["rate"] <= 1
    assert Target.load(target, exits=tmp_path / "exits", device=device).exit_layers == (1, 2, 3)
    files = {file.name for file in (tmp_path / "exits").iterdir()}
    assert files >= {"exits.json", "exits.safetensors", "report.json", "README.md"}
    assert not {name for name in files if name.endswith((".bin", ".pt", ".jsonl"))}


@pytest.mark.parametrize("device", DEVICES)
def test_a_draft_of_the_first_layers_is_trained_on_the_targets_own_answers_and_compiled(
    device: str, tmp_path: Path
) -> None:
    target = save_target(tmp_path / "target", "llama-3")
    data = chat_rows(tmp_path / "chat.jsonl")
    found = make_draft(
        tmp_path / "draft", str(target), run(data, device, self_generated=24), shape="1x48", init="layers"
    )
    assert len(found["draft"]["0.8"]["by_depth"]) >= 1
    answers = [json.loads(line) for line in (tmp_path / "draft" / "answers.jsonl").read_text().splitlines()]
    assert len(answers) == 24 and {one["temperature"] for one in answers} == {0.0, 0.5, 0.8, 1.0}
    assert all(one["prompt"].startswith("<user>What of") for one in answers)
    engine = load_draft(
        compile(tmp_path / "draft", tmp_path / "engine", runtime="onnxruntime", progress=False)
    )
    assert engine.vocabulary_hash == Target.load(target).vocabulary_hash
    assert tuple(sorted(engine.calibration.curves)) == (0.0, 0.5, 0.8, 1.0)


@pytest.mark.parametrize("shape, init", [("2x32", "layers"), ("small", "random"), ("1x48", "random")])
def test_narrower_drafts_and_random_ones(shape: str, init: str, tmp_path: Path) -> None:
    target = save_target(tmp_path / "target", "gemma-3")
    text = tmp_path / "text.txt"
    text.write_text("".join(sentence(number) for number in range(400)))
    make_draft(tmp_path / "draft", str(target), run(text), shape, init)
    config = json.loads((tmp_path / "draft" / "config.json").read_text())
    assert config["vocab_size"] == 320 and config["tie_word_embeddings"] is True


def test_an_earlier_draft_is_trained_further_and_keeps_its_shape(tmp_path: Path) -> None:
    target = save_target(tmp_path / "target", "qwen2.5")
    data = chat_rows(tmp_path / "chat.jsonl")
    make_draft(tmp_path / "first", str(target), run(data), "1x48", "layers")
    make_draft(tmp_path / "second", str(target), run(data, max_steps=6), init=str(tmp_path / "first"))
    first, second = (
        json.loads((tmp_path / name / "training.json").read_text()) for name in ("first", "second")
    )
    assert first["shape"] == second["shape"] and second["steps"] == 6


def test_more_training_brings_a_draft_nearer_to_its_target(tmp_path: Path) -> None:
    target = save_target(tmp_path / "target", "llama-3")
    data = chat_rows(tmp_path / "chat.jsonl")
    for steps in (1, 30):
        make_draft(tmp_path / str(steps), str(target), run(data, max_steps=steps), "3x48", "layers")
    first, last = (json.loads((tmp_path / name / "training.json").read_text()) for name in ("1", "30"))
    assert last["loss"] < 0.9 * first["loss"]
