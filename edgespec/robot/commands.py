"""Commands out of a text that is still being written: each as soon as it is whole, none earlier.

`turn left 20; forward 0.8; look`: a semicolon, the end of a sentence or the end of the text ends a command. Other
sentences are speech and are left alone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

LONGEST_CLAUSE = 2000
"""Characters. A longer one is refused: no buffer grows without bound."""


@dataclass(frozen=True)
class Turn:
    """degrees: to the left; negative: to the right."""

    degrees: float


@dataclass(frozen=True)
class Forward:
    metres: float


@dataclass(frozen=True)
class Look:
    """Take a picture and ask again."""


@dataclass(frozen=True)
class Stop:
    """The goal is reached."""


@dataclass(frozen=True)
class Refused:
    """A clause that begins like a command and is none that this robot carries out. It stops."""

    text: str
    reason: str


Command = Turn | Forward | Look | Stop | Refused


@dataclass(frozen=True)
class Limits:
    """The most that one command may ask for, and how fast the robot carries it out. slow_share: of the speeds, while
    text is provisional."""

    most_turn_degrees: float = 120.0
    most_forward_m: float = 3.0
    metres_per_s: float = 0.5
    degrees_per_s: float = 45.0
    slow_share: float = 0.3


_CLAUSE_END = re.compile(r";|[.!?](?=\s)")
_TURN = re.compile(r"turn (left|right) (\d{1,3}(?:\.\d{1,3})?)")
_FORWARD = re.compile(r"forward (\d{1,3}(?:\.\d{1,3})?)")
_VERBS = ("turn", "forward", "look", "stop")


class CommandParser:
    """Feed it committed text as it comes."""

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._rest = ""
        self._skipping = False

    def feed(self, text: str) -> list[Command]:
        """The commands that this text makes whole."""
        *whole, self._rest = _clauses(self._rest + text)
        commands = [command for clause in whole if (command := self._whole(clause)) is not None]
        if len(self._rest) > LONGEST_CLAUSE:
            commands += [] if self._skipping else [Refused(self._rest[:40], "it does not end")]
            self._rest, self._skipping = "", True
        return commands

    def finish(self) -> list[Command]:
        """The last command: the text has ended."""
        command = self._whole(self._rest)
        self._rest = ""
        return [] if command is None else [command]

    def foresee(self, text: str) -> list[Command]:
        """The commands that there would be if the text went on like this and ended. Takes nothing in."""
        clauses = _clauses(self._rest + text)
        return [command for clause in clauses if (command := parse_clause(clause, self._limits)) is not None]

    def _whole(self, clause: str) -> Command | None:
        if self._skipping:
            self._skipping = False
            return None
        return parse_clause(clause, self._limits)


def parse_clause(clause: str, limits: Limits) -> Command | None:
    """The command that a whole clause is; None: speech."""
    words = " ".join(clause.split()).rstrip(".!?")
    if words in ("look", "stop"):
        return Look() if words == "look" else Stop()
    if match := _TURN.fullmatch(words):
        degrees = float(match[2])
        if degrees > limits.most_turn_degrees:
            return Refused(words, f"the robot turns {limits.most_turn_degrees:g} degrees at most")
        return Turn(degrees if match[1] == "left" else -degrees)
    if match := _FORWARD.fullmatch(words):
        metres = float(match[1])
        if metres > limits.most_forward_m:
            return Refused(words, f"the robot goes {limits.most_forward_m:g} m at most")
        return Forward(metres)
    if words.split(" ", 1)[0] in _VERBS:
        return Refused(words[:80], "the robot knows no such command")
    return None


def _clauses(text: str) -> list[str]:
    """Every whole clause, and what follows the last."""
    clauses, begin = [], 0
    for end in _CLAUSE_END.finditer(text):
        clauses.append(text[begin : end.start()])
        begin = end.end()
    return [*clauses, text[begin:]]
