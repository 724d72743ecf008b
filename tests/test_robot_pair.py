"""The bundled driving pair sees, answers and drives as its card says, within what few samples can tell."""

from __future__ import annotations

import json

import pytest

from edgespec.engines.model_folder import PAIR_FOLDER

ROBOT_PAIR = PAIR_FOLDER / "robot"

pytestmark = pytest.mark.needs_torch


def test_the_target_sees_and_drives_in_rooms_that_it_has_not_seen() -> None:
    from edgespec.train.robot.conversation import Conversations
    from edgespec.train.robot.measure import answers_to, driving_figures, held_out, load, sight_figures
    from edgespec.train.tokenizer import load_tokenizer

    target = load(ROBOT_PAIR / "target")
    conversations = Conversations(load_tokenizer(ROBOT_PAIR / "target"))
    cases = held_out(40)
    sight = sight_figures(conversations, cases, answers_to(target, conversations, cases))
    assert sight["objects_f1"] > 0.88
    assert sight["bearing_error_degrees"] < 5 and sight["distance_error_share"] < 0.15
    assert driving_figures(target, conversations, 12)["success"] >= 0.75


def test_the_shipped_engine_is_of_the_shipped_draft_and_sees_at_the_cameras_size() -> None:
    from edgespec.cli.demo.robot.setting import RobotSetting
    from edgespec.engines.manifest import EngineManifest
    from edgespec.robot.camera import HEIGHT, WIDTH

    assert RobotSetting.of(None, 1, 0).engine == ROBOT_PAIR / "engine"
    eyes = EngineManifest.load(ROBOT_PAIR / "engine").eyes
    assert eyes is not None and (eyes.height, eyes.width) == (HEIGHT, WIDTH)


def test_a_draft_with_eyes_is_accepted_more_often_than_one_without() -> None:
    from edgespec.train.recipe import load_draft
    from edgespec.train.robot.conversation import Conversations
    from edgespec.train.robot.measure import acceptance, answers_to, held_out, load
    from edgespec.train.tokenizer import load_tokenizer

    target = load(ROBOT_PAIR / "target")
    conversations, cases = Conversations(load_tokenizer(ROBOT_PAIR / "target")), held_out(40)
    own = answers_to(target, conversations, cases)
    seeing = acceptance(load(ROBOT_PAIR / "draft"), conversations, cases, own, blind=False)
    blind = acceptance(load_draft(ROBOT_PAIR / "blind"), conversations, cases, own, blind=True)
    assert blind["acceptance"] > 0.6
    assert blind["acceptance"] + 0.02 < seeing["acceptance"] < 0.95


def test_the_card_says_what_was_measured() -> None:
    from edgespec.train.robot.card import render

    figures = json.loads((ROBOT_PAIR / "figures.json").read_text(encoding="utf-8"))
    assert (ROBOT_PAIR / "README.md").read_text(encoding="utf-8") == render(figures)


def test_the_pair_is_small() -> None:
    assert sum(file.stat().st_size for file in ROBOT_PAIR.rglob("*") if file.is_file()) < 20_000_000
