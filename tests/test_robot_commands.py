"""Text into commands, as soon as each is whole and never earlier."""

import re

import pytest

from edgespec.robot.camera import Sighting
from edgespec.robot.commands import (
    LONGEST_CLAUSE,
    Command,
    CommandParser,
    Forward,
    Limits,
    Look,
    Refused,
    Stop,
    Turn,
)
from edgespec.robot.language import ANSWER_PATTERN, answer

TEXT = "I see red chair left 20 1.8 m, blue ball ahead 2.4 m. turn left 20; forward 0.8; look"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_commands_do_not_depend_on_how_the_text_is_cut(size: int) -> None:
    parser, commands = CommandParser(), list[Command]()
    for begin in range(0, len(TEXT), size):
        commands += parser.feed(TEXT[begin : begin + size])
    assert commands + parser.finish() == [Turn(20.0), Forward(0.8), Look()]


def test_a_command_comes_with_its_semicolon_and_not_before() -> None:
    parser = CommandParser()
    assert parser.feed("I see nothing. turn right 9") == []
    assert parser.feed("0") == []
    assert parser.feed(";") == [Turn(-90.0)]


def test_the_end_of_the_text_ends_the_last_command() -> None:
    parser = CommandParser()
    assert parser.feed("I see red box ahead 1.0 m. stop") == []
    assert parser.finish() == [Stop()]
    assert parser.finish() == []


def test_speech_is_left_alone() -> None:
    parser = CommandParser()
    assert parser.feed("I could turn left 20, or look. Please stop me if I am wrong! ") == []


@pytest.mark.parametrize(
    "clause", ["turn left 121", "forward 3.1", "forward -1", "turn up 3", "forward 1e9", "look around"]
)
def test_what_is_beyond_the_limits_or_unknown_is_refused(clause: str) -> None:
    (command,) = CommandParser(Limits(most_turn_degrees=120, most_forward_m=3)).feed(f"{clause};")
    assert isinstance(command, Refused)


def test_a_clause_without_end_is_refused_once_and_the_next_one_is_read() -> None:
    parser = CommandParser()
    commands = [one for _ in range(5) for one in parser.feed("x" * LONGEST_CLAUSE)]
    assert [type(one) for one in commands] == [Refused]
    assert parser.feed("; look;") == [Look()]


@pytest.mark.parametrize(
    ("sightings", "goal"),
    [
        ([], "red chair"),
        ([Sighting(0, "red chair", 21.0, 1.83)], "red chair"),
        ([Sighting(0, "red chair", 1.0, 1.1)], "red chair"),
        ([Sighting(0, "blue box", -3.0, 3.9), Sighting(1, "red cone", -44.0, 2.5)], "red cone"),
    ],
)
def test_every_answer_fits_its_grammar_and_its_commands_the_limits(
    sightings: list[Sighting], goal: str
) -> None:
    text = answer(sightings, goal)
    assert re.fullmatch(ANSWER_PATTERN, text)
    parser = CommandParser()
    commands = parser.feed(text) + parser.finish()
    assert commands and not any(isinstance(one, Refused) for one in commands)
    assert isinstance(commands[-1], (Look, Stop))
