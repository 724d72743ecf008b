"""An outage in mid-answer: the link carries nothing for a while; the draft goes on alone and the robot holds back."""

from __future__ import annotations

import os
import signal
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from edgespec.cli.demo.robot.drives import Device, Drive
from edgespec.cli.demo.robot.setting import OFFLINE_AFTER_MS, OUTAGE_MS, scaled
from edgespec.edge.link_options import LinkOptions
from edgespec.edge.step import Step
from edgespec.robot.trial import Trial


@dataclass
class Outage:
    """Stops the process that is the link, once, and lets it go on. Times in seconds of the monotonic clock."""

    process_id: int
    length_s: float
    text: str = ""
    began_s: float | None = None
    ended_s: float | None = None
    provisional_s: float | None = None
    corrected_s: float | None = None
    revised: int = 0
    events: list[str] = field(default_factory=list)

    def hear(self, step: Step) -> None:
        now_s = time.monotonic()
        self.text += step.text
        self.events += step.events
        self.revised += step.revised
        if step.provisional:
            self.provisional_s = self.provisional_s or now_s
        if self.ended_s is not None and step.tokens:
            self.corrected_s = self.corrected_s or now_s
        between = ";" in self.text and step.finish_reason is None  # a command is whole, and more are to come
        if step.finish_reason is not None:
            self.text = ""
        if self.began_s is None and between:
            self.began_s = now_s
            os.kill(self.process_id, signal.SIGSTOP)
            threading.Timer(self.length_s, self.end).start()

    def end(self) -> None:
        """The link carries bytes again."""
        os.kill(self.process_id, signal.SIGCONT)
        self.ended_s = self.ended_s or time.monotonic()


def drive_through_outage(
    device: Device, process_id: int, room: int, trial: Trial, mode: str
) -> tuple[Drive, Outage]:
    """Drive a trial in which an outage interrupts an answer between two of its commands."""
    outage = Outage(process_id, scaled(OUTAGE_MS) / 1e3)
    alone_s = scaled(OFFLINE_AFTER_MS) / 1e3
    link = LinkOptions(dead_after_s=2 * alone_s, offline_after_s=alone_s)
    try:
        return device.drive(mode, room, trial, link, outage.hear), outage
    finally:
        outage.end()


def outage_figures(drive: Drive, outage: Outage, undisturbed: Drive) -> dict[str, Any] | None:
    """held_back_after_ms: from the outage's begin until the robot was slowed or stopped; correct_after_ms: from its end
    until the target's next token. None: no answer came in pieces, so that there was none to interrupt."""
    began_s, ended_s = outage.began_s, outage.ended_s
    if began_s is None or ended_s is None:
        return None
    began_ms = (began_s - drive.begun_s) * 1e3

    def after(time_s: float | None, since_s: float) -> float | None:
        return None if time_s is None else (time_s - since_s) * 1e3

    held = [one.time_ms for one in drive.moments if one.state != "free" and one.time_ms >= began_ms]
    look = drive.outcome.looks[next(one.look for one in drive.moments if one.time_ms >= began_ms) - 1]
    return {
        "mode": drive.mode,
        "room": drive.room,
        "length_ms": outage.length_s * 1e3,
        "identical": drive.texts == undisturbed.texts,
        "reached": drive.trial.reached,
        "states": look.states,
        "held_back_after_ms": held[0] - began_ms if held else None,
        "provisional_text": look.provisional,
        "provisional_after_ms": after(outage.provisional_s, began_s),
        "revised_tokens": outage.revised,
        "correct_after_ms": after(outage.corrected_s, ended_s),
        "events": outage.events,
    }
