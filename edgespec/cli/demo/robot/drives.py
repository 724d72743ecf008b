"""One room in one mode: the robot looks, asks over the emulated link, and goes."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from edgespec.cli.demo.robot.setting import WATCHDOG_MS, limits, scaled
from edgespec.cli.demo.runs import Setting
from edgespec.core.measurements import Measurements
from edgespec.core.pacing import DraftPacing
from edgespec.core.tokenizer import Tokenizer
from edgespec.drafting.modes import WAITING_MODES
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.session import Session
from edgespec.edge.step import Step
from edgespec.engines.draft_engine import DraftEngine
from edgespec.robot.asking import SessionAsk
from edgespec.robot.camera import jpeg
from edgespec.robot.mission import Ask, Mission, Outcome
from edgespec.robot.pilot import Pilot
from edgespec.robot.rooms import Pose
from edgespec.robot.trial import Trial

STEP_S = 0.01
"""A control period, in the demo's time."""


@dataclass(frozen=True)
class Moment:
    """time_ms: since the mission began, in the demo's time. text: of this look's answer so far."""

    time_ms: float
    pose: Pose
    state: str
    look: int
    text: str


@dataclass
class Drive:
    """A trial as it was driven in one mode. begun_s: by the monotonic clock. goal_ms: until the robot had stopped."""

    mode: str
    room: int
    trial: Trial
    outcome: Outcome
    begun_s: float
    goal_ms: float
    moments: list[Moment] = field(repr=False)

    @property
    def texts(self) -> list[list[int]]:
        """The tokens of each look's answer."""
        return [look.tokens for look in self.outcome.looks]


class Device:
    """The robot's computer: a draft, and sessions with a server over one link."""

    def __init__(
        self, address: tuple[str, int], engine: DraftEngine, tokenizer: Tokenizer, setting: Setting
    ) -> None:
        self._address, self._engine, self._tokenizer, self._setting = address, engine, tokenizer, setting
        self._known: dict[str, Measurements] = {}

    def drive(
        self,
        mode: str,
        room: int,
        trial: Trial,
        link: LinkOptions | None = None,
        told: Callable[[Step], None] = lambda step: None,
    ) -> Drive:
        """Drive a trial from its beginning. told: gets every step that brought something."""
        opened: list[Session] = []

        def open_session() -> Session:
            opened.append(self._open(mode, link))
            return opened[-1]

        drive = drive_trial(mode, room, trial, SessionAsk(open_session, STEP_S), told)
        self._known[mode] = opened[-1].measurements
        return drive

    def _open(self, mode: str, link: LinkOptions | None) -> Session:
        setting = self._setting
        return Session(
            [self._address],
            self._engine,
            setting.params,
            mode=mode,
            draft_tokens=setting.draft_tokens if mode in WAITING_MODES else None,
            tokenizer=self._tokenizer,
            link=link,
            draft_pace=DraftPacing(setting.pacing.draft_ms) if setting.pacing.draft_ms else None,
            measurements=self._known.get(mode),
        )


def drive_trial(
    mode: str, room: int, trial: Trial, ask: Ask, told: Callable[[Step], None] = lambda step: None
) -> Drive:
    """Drive a trial from its beginning to its end. told: gets every step that brought something."""
    journal = _Journal(trial)
    drive = secrets.token_hex(8)  # a server knows a file again: no drive profits from another's
    mission = Mission(
        journal.pilot,
        ask,
        lambda: jpeg(trial.picture(), comment=drive),
        journal.wait,
        on_step=journal.on_step,
        clock=journal.now_s,
    )

    def hear(step: Step) -> None:
        journal.hear(step)
        told(step)

    outcome = mission.follow(trial.request, hear)
    trial.said_stop = journal.pilot.reached
    return Drive(mode, room, trial, outcome, journal.begun_s, journal.now_ms, journal.moments)


class _Journal:
    """The robot's clock, body and diary. While an answer comes, time is real; afterwards it is simulated."""

    def __init__(self, trial: Trial) -> None:
        self.pilot = Pilot(limits(), scaled(WATCHDOG_MS) / 1e3)
        self.moments: list[Moment] = []
        self._trial = trial
        self.begun_s = self._moved_s = time.monotonic()
        self._skipped_s = 0.0
        self._text = ""
        self._looks = 0

    def now_s(self) -> float:
        return time.monotonic() + self._skipped_s

    @property
    def now_ms(self) -> float:
        return (self.now_s() - self.begun_s) * 1e3

    def hear(self, step: Step) -> None:
        if self._trial.pictures != self._looks:
            self._looks, self._text = self._trial.pictures, ""
        self._text += step.text

    def on_step(self) -> None:
        now_s = self.now_s()
        self._move(now_s - self._moved_s)
        self._moved_s = now_s

    def wait(self) -> None:
        """Let a control period pass, in no time."""
        self._move(STEP_S)
        self._skipped_s += STEP_S
        self._moved_s = self.now_s()

    def _move(self, period_s: float) -> None:
        now_s, body = self.now_s(), self._trial.body
        if period_s > 0:
            body.move(self.pilot.velocity(now_s, period_s), period_s)
        state = self.pilot.state(now_s).value
        self.moments.append(Moment(self.now_ms, body.pose, state, self._trial.pictures, self._text))


def drive_all(device: Device, modes: Sequence[str], trials: Callable[[], list[Trial]]) -> Iterator[Drive]:
    """Every room in every mode in turn, so that a busy machine slows all of them down. trials: makes them anew."""
    by_mode = {mode: trials() for mode in modes}
    for room in range(len(next(iter(by_mode.values())))):
        for mode in modes:
            yield device.drive(mode, room, by_mode[mode][room])
