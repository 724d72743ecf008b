"""From commands to speeds, safely: only committed commands move the robot; provisional text slows it, a revision stops
it, and a watchdog stops it when nothing is committed for too long.

The clock is the caller's: every call says what time it is, in seconds. A thread that listens and one that controls may
share a pilot.
"""

from __future__ import annotations

import functools
import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

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


class State(Enum):
    """What holds the robot back."""

    FREE = "free"
    SLOW = "slow"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Velocity:
    """Ahead, and to the left."""

    metres_per_s: float = 0.0
    radians_per_s: float = 0.0


STILL = Velocity()

Method = TypeVar("Method", bound=Callable[..., Any])


def _alone(method: Method) -> Method:
    """The method, run by one thread at a time."""

    @functools.wraps(method)
    def locked(self: Pilot, *arguments: Any) -> Any:
        with self._lock:
            return method(self, *arguments)

    return locked  # type: ignore[return-value]


class Pilot:
    """Carries out the commands of one answer after the other.

    watchdog_s: the longest that the robot moves on while an answer is unfinished and nothing of it is committed.
    """

    def __init__(self, limits: Limits | None = None, watchdog_s: float = 0.5) -> None:
        self.limits = limits or Limits()
        self.watchdog_s = watchdog_s
        self._lock = threading.RLock()
        self.begin(0.0)

    @_alone
    def begin(self, now_s: float) -> None:
        """A new answer is awaited; what is left of an earlier one is dropped."""
        self._parser = CommandParser(self.limits)
        self._foreseen = ""
        self._waiting: deque[Command] = deque()
        self._left = 0.0
        self._committed_s = now_s
        self._revised = self._provisional = False
        self._halted = False
        self.answered = self.wants_to_look = self.reached = self.cancelled = False
        self.refused: Refused | None = None

    @_alone
    def committed(self, text: str, now_s: float) -> list[Command]:
        """Text that the target has committed; returns the commands that it made whole."""
        self._committed_s = now_s
        self._revised = self._provisional = self._halted = False
        self._foreseen = ""
        return self._take(self._parser.feed(text))

    @_alone
    def finished(self, now_s: float) -> list[Command]:
        """The answer has ended."""
        self._committed_s = now_s
        self.answered = True
        self._revised = self._provisional = self._halted = False
        return self._take(self._parser.finish())

    @_alone
    def provisional(self, text: str) -> None:
        """Text of the draft alone: it may slow the robot or stop it, and moves nothing."""
        self._provisional = True
        self._foreseen = (self._foreseen + text)[:LONGEST_CLAUSE]
        foreseen = self._parser.foresee(self._foreseen)
        self._halted |= any(isinstance(one, (Stop, Refused)) for one in foreseen)

    @_alone
    def revised(self) -> None:
        """Provisional text was wrong: the robot stands until new text is committed."""
        self._revised = True

    @_alone
    def cancel(self) -> None:
        """Drop everything and stand, whatever is committed, until the next answer begins."""
        self._waiting.clear()
        self._left = 0.0
        self.answered = self.cancelled = True

    @_alone
    def state(self, now_s: float) -> State:
        late = not self.answered and now_s - self._committed_s > self.watchdog_s
        if self._revised or self._halted or self.refused or late:
            return State.STOPPED
        return State.SLOW if self._provisional else State.FREE

    @_alone
    def velocity(self, now_s: float, period_s: float) -> Velocity:
        """The speeds to hold for the next control period, from now on."""
        state = self.state(now_s)
        if state is State.STOPPED or not self._moving():
            return STILL
        share = self.limits.slow_share if state is State.SLOW else 1.0
        command = self._waiting[0]
        if isinstance(command, Turn):
            step = min(self._left, share * self.limits.degrees_per_s * period_s)
            velocity = Velocity(0.0, math.copysign(math.radians(step / period_s), command.degrees))
        else:
            step = min(self._left, share * self.limits.metres_per_s * period_s)
            velocity = Velocity(step / period_s)
        self._left -= step
        if self._left <= 1e-9:
            self._waiting.popleft()
        return velocity

    @property
    @_alone
    def idle(self) -> bool:
        """Whether the answer has ended and all of it is carried out."""
        return self.answered and (self.refused is not None or not self._moving())

    def _take(self, commands: list[Command]) -> list[Command]:
        if self.cancelled:
            return []
        for command in commands:
            if isinstance(command, Refused):
                self.refused = self.refused or command
        self._waiting.extend(commands)
        return commands

    def _moving(self) -> bool:
        """Whether a motion is due; notes what comes before it."""
        while self._waiting:
            command = self._waiting[0]
            if isinstance(command, (Turn, Forward)):
                if self._left <= 1e-9:
                    self._left = abs(command.degrees if isinstance(command, Turn) else command.metres)
                if self._left > 1e-9:
                    return True
            elif isinstance(command, Look):
                self.wants_to_look = True
            elif isinstance(command, Stop):
                self.reached = True
                self._waiting.clear()
                return False
            self._waiting.popleft()
        return False
