"""The training of a driving pair: its forward is transformers' own, its labels are right, and it learns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.needs_torch


@pytest.fixture(scope="module")
def kit() -> tuple[Any, Any, Any]:
    """A tiny model, its conversations and some scenes."""
    from edgespec.train.robot.conversation import Conversations
    from edgespec.train.robot.lessons import Scenes
    from edgespec.train.robot.shape import SeeingShape, build
    from edgespec.train.robot.words import prompt_words, train_tokenizer

    scenes = Scenes(3, ring=16)
    texts = [text for scene in scenes.next(16) for text in scenes.ask(scene)]
    tokenizer = train_tokenizer([*prompt_words(), *texts])
    shape = SeeingShape(2, 64, 2, 1, 96, sight_layers=2, sight_width=64)
    return build(shape, tokenizer, 0).eval(), Conversations(tokenizer), scenes


def test_training_computes_what_transformers_computes(kit: Any) -> None:
    import torch

    from edgespec.train.robot.conversation import answer_logits
    from edgespec.train.robot.shape import FRAMES, PATCH
    from edgespec.train.robot.sight import GRID, PATCHES, patches, seen_by

    model, conversations, scenes = kit
    (scene,) = scenes.next(1)
    batch = conversations.batch([scenes.ask(scene)])
    still = patches(scene.picture[None]).view(PATCHES, 3, 1, PATCH * PATCH)
    with torch.no_grad():
        whole = model(
            input_ids=batch.ids,
            pixel_values=still.expand(-1, -1, FRAMES, -1).reshape(PATCHES, -1),
            image_grid_thw=torch.tensor([GRID]),
            mm_token_type_ids=(batch.ids == model.config.image_token_id).int(),
        ).logits[0, batch.places]
        ours = answer_logits(model, batch, seen_by(model.model.visual, [scene]))
    assert torch.allclose(whole, ours, atol=1e-5)


def test_patches_are_those_of_transformers_processor(kit: Any, tmp_path: Path) -> None:
    import torch
    from transformers import AutoImageProcessor

    from edgespec.train.robot.recipe import save_processor
    from edgespec.train.robot.shape import FRAMES, PATCH
    from edgespec.train.robot.sight import GRID, PATCHES, patches

    save_processor(tmp_path)
    (scene,) = kit[2].next(1)
    theirs = AutoImageProcessor.from_pretrained(tmp_path, backend="pil")(scene.picture, return_tensors="pt")
    ours = patches(scene.picture[None]).view(PATCHES, 3, 1, PATCH * PATCH).expand(-1, -1, FRAMES, -1)
    assert theirs["image_grid_thw"].tolist() == [list(GRID)]
    assert torch.allclose(theirs["pixel_values"], ours.reshape(PATCHES, -1), atol=1e-5)


def test_a_mirrored_scene_is_the_mirrored_room(kit: Any) -> None:
    from edgespec.robot.camera import LINE_EVERY, WIDTH, with_lines

    (scene,) = kit[2].next(1)
    twice = scene.mirrored().mirrored()
    inner = [column for column in range(WIDTH) if column % LINE_EVERY not in (0, 1, LINE_EVERY - 1)]
    assert (twice.picture[:, inner] == scene.picture[:, inner]).all()
    assert (twice.picture[:, ::LINE_EVERY] == with_lines(scene.picture)[:, ::LINE_EVERY]).all()
    assert [one.bearing for one in twice.sightings] == [one.bearing for one in scene.sightings]
    mirrored = scene.mirrored()
    assert [one.name for one in mirrored.sightings] == [one.name for one in reversed(scene.sightings)]
    assert np.array_equal(mirrored.cells.bearing.reshape(3, 6)[:, ::-1], -scene.cells.bearing.reshape(3, 6))


def test_cells_are_labelled_with_what_they_show() -> None:
    from robot_rooms import room_with

    from edgespec.robot.camera import look
    from edgespec.robot.rooms import COLOURS, KINDS, Pose
    from edgespec.train.robot.lessons import label_cells

    room = room_with(("blue", "box", 2.0, 1.2))
    view = look(room, Pose())
    labels = label_cells(room, view, Pose())
    cells = np.flatnonzero(labels.colour >= 0)
    shown = np.unique(np.nonzero(view.shown == 0)[1] // 28)
    assert set(cells % 6) <= set(shown) and len(cells)
    assert set(labels.colour[cells]) == {list(COLOURS).index("blue")}
    assert set(labels.kind[cells]) == {KINDS.index("box")}
    assert labels.bearing[cells] == pytest.approx(31.0, abs=0.1)
    assert labels.distance[cells] == pytest.approx(2.33, abs=0.01)


def test_greedy_answers_are_those_of_transformers(kit: Any) -> None:
    import torch

    from edgespec.train.robot.measure import answers
    from edgespec.train.robot.shape import FRAMES, PATCH
    from edgespec.train.robot.sight import GRID, PATCHES, patches

    model, conversations, scenes = kit
    found = scenes.next(2)
    requests = ["go to the red chair", "find the blue box"]
    ours = answers(model, conversations, [scene.picture for scene in found], requests)
    for scene, request, tokens in zip(found, requests, ours, strict=True):
        ids = torch.tensor([conversations.prompt(request)])
        still = patches(scene.picture[None]).view(PATCHES, 3, 1, PATCH * PATCH)
        whole = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            pixel_values=still.expand(-1, -1, FRAMES, -1).reshape(PATCHES, -1),
            image_grid_thw=torch.tensor([GRID]),
            mm_token_type_ids=(ids == model.config.image_token_id).int(),
            max_new_tokens=len(tokens),
            do_sample=False,
        )
        assert whole[0, ids.shape[1] :].tolist() == tokens


def test_every_stage_learns(kit: Any) -> None:
    from edgespec.train.robot.shape import SeeingShape, build_blind
    from edgespec.train.robot.sight import CellHead
    from edgespec.train.robot.stages import AnswerStage, BlindStage, SightStage

    model, conversations, scenes = kit
    head, shape = CellHead(64), SeeingShape(1, 64, 2, 1, 64, sight_layers=1, sight_width=32)
    blind = build_blind(shape, conversations.tokenizer, 0)
    for stage in (
        SightStage(model.model.visual, head, scenes, 8),
        AnswerStage(model, head, conversations, scenes),
        BlindStage(blind, model, conversations, scenes),
    ):
        losses = [stage.step(0.1)[0] for _ in range(8)]
        assert losses[-1] < 0.9 * losses[0], stage.title
    model.eval()


def test_a_draft_that_is_the_target_is_always_accepted(kit: Any) -> None:
    from edgespec.train.robot.measure import acceptance, answers_to

    model, conversations, scenes = kit
    cases = [(scene, *scenes.ask(scene)) for scene in scenes.next(2)]
    own = answers_to(model, conversations, cases)
    figures = acceptance(model, conversations, cases, own, blind=False)
    assert figures["acceptance"] == 1.0 and 4 < figures["tokens_a_round"] <= 5


def test_the_recipe_leaves_three_models_and_goes_on_where_it_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgespec.train.robot import recipe
    from edgespec.train.robot.card import write_card
    from edgespec.train.robot.measure import load
    from edgespec.train.robot.shape import SeeingShape
    from edgespec.train.run import Run

    small = SeeingShape(1, 64, 2, 1, 64, sight_layers=1, sight_width=32)
    monkeypatch.setattr(recipe, "TARGET_SHAPE", small)
    monkeypatch.setattr(recipe, "DRAFT_SHAPE", small)
    monkeypatch.setattr(recipe, "TOKENIZER_SCENES", 20)
    monkeypatch.setattr(recipe, "CALIBRATION_SCENES", 3)
    monkeypatch.setattr(recipe, "write_card", lambda folder: write_card(folder, scenes=2, rooms=1))
    run = Run(minutes=60, max_steps=1, quiet=True)
    recipe.make_robot(tmp_path, run)
    names = {"config.json", "model.safetensors", "tokenizer.json", "training.json"}
    for name, more in (
        ("target", {"preprocessor_config.json"}),
        ("draft", {"preprocessor_config.json", "calibration.json"}),
        ("blind", {"calibration.json"}),
    ):
        assert names | more <= {file.name for file in (tmp_path / name).iterdir()}
    before = (tmp_path / "target" / "model.safetensors").stat().st_mtime_ns
    recipe.make_robot(tmp_path, run)
    assert (tmp_path / "target" / "model.safetensors").stat().st_mtime_ns == before
    card = (tmp_path / "README.md").read_text()
    assert "goal reached" in card and "with eyes" in card and "of text alone" in card
    assert load(tmp_path / "draft").config.vision_config.patch_size == 14
