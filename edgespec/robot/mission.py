"""Look, ask, go, and look again, until the goal is reached: one instruction, over any session and any body."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgespec.edge.step import Step
from edgespec.robot.commands import Command
from edgespec.robot.pilot import Pilot

Picture = NDArray[np.uint8] | bytes
"""uint8 [H, W, 3], or a JPEG or PNG file."""

Ask = Callable[[Picture, str], Iterable[Step]]
"""Puts a picture and a request to the target; brings the answer step by step, also steps without
news, at least one a control period."""


MOST_LOOKS = 6
"""At one instruction."""


@dataclass
class LookRecord:
    """One look. Times in milliseconds since the picture was taken; None: it did not come to that. provisional:
    all unverified text that came. states: what held the robot back, in turn."""

    text: str = ""
    tokens: list[int] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    first_token_ms: float | None = None
    first_command_ms: float | None = None
    answer_ms: float | None = None
    bytes: int = 0
    revised: int = 0
    provisional: str = ""
    states: list[str] = field(default_factory=list)
    finish_reason: str | None = None


@dataclass
class Outcome:
    """How a mission went. reason: why it ended, in words."""

    looks: list[LookRecord]
    reached: bool
    reason: str

    @property
    def answer(self) -> str:
        """The text of the last look."""
        return self.looks[-1].text if self.looks else ""


class Mission:
    """ask: see `Ask`. picture: takes one. wait: lets a control period pass. on_step: is called while an answer comes,
    at least once a control period. clock: the time in seconds that the pilot goes by."""

    def __init__(
        self,
        pilot: Pilot,
        ask: Ask,
        picture: Callable[[], Picture],
        wait: Callable[[], object],
        on_step: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
        most_looks: int = MOST_LOOKS,
    ) -> None:
        self._pilot, self._ask, self._picture, self._clock = pilot, ask, picture, clock
        self._wait, self._on_step = wait, on_step
        self._most_looks = most_looks

    def follow(self, request: str, told: Callable[[Step], None] = lambda step: None) -> Outcome:
        """Carry out a request. told: gets every step that brought something."""
        looks: list[LookRecord] = []
        for _ in range(self._most_looks):
            self._pilot.begin(self._clock())
            record = LookRecord()
            looks.append(record)
            self._listen(record, request, told)
            while not self._pilot.idle:
                self._wait()
            if reason := self._over(record):
                return Outcome(looks, self._pilot.reached, reason)
        return Outcome(looks, False, f"the goal was not reached in {self._most_looks} looks")

    def _listen(self, record: LookRecord, request: str, told: Callable[[Step], None]) -> None:
        begun_s = time.monotonic()
        for step in self._ask(self._picture(), request):
            now_ms = (time.monotonic() - begun_s) * 1e3
            _note(record, step, self._apply(step), now_ms)
            if step.tokens or step.provisional or step.revised or step.events:
                told(step)
            state = self._pilot.state(self._clock()).value
            if record.states[-1:] != [state]:
                record.states.append(state)
            self._on_step()

    def _apply(self, step: Step) -> list[Command]:
        """Tell the pilot; returns the commands that are whole now."""
        pilot, commands = self._pilot, []
        if step.revised:
            pilot.revised()
        if step.tokens:
            commands = pilot.committed(step.text, self._clock())
        if step.provisional:
            pilot.provisional(step.provisional)
        if step.finish_reason is not None:
            commands = [*commands, *pilot.finished(self._clock())]
        return commands

    def _over(self, record: LookRecord) -> str:
        """Why the mission ends here; empty: it goes on."""
        pilot = self._pilot
        if pilot.cancelled:
            return "cancelled"
        if pilot.reached:
            return "the goal is reached"
        if pilot.refused is not None:
            return f"refused {pilot.refused.text!r}: {pilot.refused.reason}"
        return "" if pilot.wants_to_look else "the answer did not say how to go on"


def _note(record: LookRecord, step: Step, commands: list[Command], now_ms: float) -> None:
    record.text += step.text
    record.tokens.extend(step.tokens)
    record.commands.extend(commands)
    record.revised += step.revised
    record.provisional += step.provisional
    record.bytes = step.statistics.bytes_up + step.statistics.bytes_down
    if step.tokens and record.first_token_ms is None:
        record.first_token_ms = now_ms
    if commands and record.first_command_ms is None:
        record.first_command_ms = now_ms
    if step.finish_reason is not None:
        record.finish_reason, record.answer_ms = step.finish_reason, now_ms
