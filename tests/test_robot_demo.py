"""The robot's demo, with a scripted target in place of sessions: the mission, its figures and its pictures."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgespec.cli.demo.robot.drives import Drive, drive_trial
from edgespec.cli.demo.robot.figures import by_mode, identical
from edgespec.cli.demo.robot.pictures import film, paths
from edgespec.cli.demo.robot.setting import RobotSetting
from edgespec.cli.main import main
from edgespec.core.errors import EdgespecError
from edgespec.edge.step import Statistics, Step
from edgespec.robot.camera import look
from edgespec.robot.language import answer
from edgespec.robot.mission import Mission, Picture
from edgespec.robot.pilot import Pilot
from edgespec.robot.trial import Trial, make_trials

SEED = 7


class Knowing:
    """An `Ask` that answers by what is really in view, a word a step."""

    def __init__(self, trial: Trial) -> None:
        self._trial = trial

    def __call__(self, picture: Picture, request: str) -> Iterator[Step]:
        assert isinstance(picture, bytes) and picture[:2] == b"\xff\xd8"
        trial = self._trial
        text = answer(look(trial.room, trial.body.pose).sightings, trial.goal.name)
        words = re.findall(r"\s*\S+", text)
        for number, word in enumerate(words):
            yield Step([number], word, None, None, Statistics(bytes_up=9000, bytes_down=10 * number))
        yield Step([0], "", None, "stop", Statistics(bytes_up=9000, bytes_down=1000))


def driven(mode: str, room: int) -> Drive:
    trial = make_trials(SEED, room + 1)[room]
    return drive_trial(mode, room, trial, Knowing(trial))


@pytest.fixture(scope="module")
def drives() -> list[Drive]:
    return [driven(mode, room) for room in (0, 1) for mode in ("cloud", "auto")]


def test_a_mission_goes_on_until_the_goal_is_reached(drives: list[Drive]) -> None:
    for drive in drives:
        assert drive.outcome.reached and drive.trial.reached
        assert drive.outcome.reason == "the goal is reached"
        assert drive.outcome.looks[-1].text.endswith("stop")


def test_a_robot_that_was_simulated_is_where_one_that_waited_would_be(drives: list[Drive]) -> None:
    trial = make_trials(SEED, 1)[0]
    while trial.carry_out(Pilot(), answer(look(trial.room, trial.body.pose).sightings, trial.goal.name)):
        pass
    pose = drives[0].trial.body.pose
    assert (pose.x, pose.y) == (pytest.approx(trial.body.pose.x), pytest.approx(trial.body.pose.y))


def test_figures_compare_modes_on_the_same_rooms(drives: list[Drive]) -> None:
    figures = by_mode(drives)
    assert list(figures) == ["cloud", "auto"]
    assert figures["cloud"]["speed_vs_cloud"] == pytest.approx(1.0)
    for one in figures.values():
        assert one["success"] == 1.0 and one["bytes_a_look"] == 10_000
        assert 0 < one["first_token_ms"] <= one["first_command_ms"] <= one["answer_ms"] < one["goal_ms"]
        assert one["commands_a_minute"] > 0
    assert identical(drives)


def test_a_differing_token_is_seen(drives: list[Drive]) -> None:
    other = driven("sync", 0)
    other.outcome.looks[0].tokens[-1] += 1
    assert not identical([*drives, other])


def test_a_mission_without_end_is_given_up() -> None:
    trial = make_trials(SEED, 1)[0]

    def lost(picture: Picture, request: str) -> Iterator[Step]:
        yield Step([1], "I see nothing. turn left 90; look", None, "stop", Statistics())

    pilot = Pilot()
    mission = Mission(pilot, lost, trial.picture, lambda: pilot.velocity(0.0, 1.0), most_looks=3)
    outcome = mission.follow(trial.request)
    assert (len(outcome.looks), outcome.reached) == (3, False)


def test_an_answer_without_a_command_ends_the_mission() -> None:
    trial = make_trials(SEED, 1)[0]

    def vague(picture: Picture, request: str) -> Iterator[Step]:
        yield Step([1], "I see nothing.", None, "stop", Statistics())

    outcome = Mission(Pilot(), vague, trial.picture, lambda: None).follow(trial.request)
    assert outcome.reason == "the answer did not say how to go on"


def test_paths_and_film_are_drawn(
    drives: list[Drive], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    from PIL import Image

    monkeypatch.setattr("edgespec.cli.demo.robot.pictures.FRAMES", 3)
    paths(drives[1::2], tmp_path / "paths.png", "two rooms")
    film(drives[:2], tmp_path / "robot.gif", "one room")
    with Image.open(tmp_path / "robot.gif") as gif:
        assert getattr(gif, "n_frames", 1) == 3
    assert (tmp_path / "paths.png").stat().st_size > 10_000


def test_without_a_driving_pair_the_demo_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(EdgespecError, match="edgespec train robot"):
        RobotSetting.of(tmp_path, 1, 0)


def test_flags_of_the_robot_alone_are_refused_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", "--json", "x.json"])
    assert ended.value.code == 2 and "--robot" in capsys.readouterr().err
