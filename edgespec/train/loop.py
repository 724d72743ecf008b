"""The loop under every stage: step until the budget of minutes is spent, show progress, keep checkpoints.

A stage says what one step is; the loop owns the clock. A run that was killed goes on from its last
checkpoint with the minutes that were left.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from edgespec.core.errors import EdgespecError


@dataclass(frozen=True)
class Budget:
    """How long a stage may train: minutes of its own, or fewer steps if `most_steps` is given."""

    minutes: float
    most_steps: int | None = None
    checkpoint_every_s: float = 60.0


@dataclass
class Record:
    """What a stage did, for the model card."""

    minutes: float = 0.0
    steps: int = 0
    tokens: int = 0
    loss: float = 0.0

    def to_json(self) -> dict[str, float | int]:
        return asdict(self)


class Stage(Protocol):
    """One thing to train."""

    title: str

    def step(self, fraction: float) -> tuple[float, int]:
        """Train one step at this fraction of the budget; returns the loss and the tokens seen."""

    def state(self) -> dict[str, Any]:
        """Everything needed to go on later."""

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""


def train(stage: Stage, budget: Budget, checkpoint: Path | None = None, quiet: bool = False) -> Record:
    """Run `stage` until its budget is spent; resumes from `checkpoint` if that file exists.

    Raises EdgespecError if that file is of another run.
    """
    record = _resume(stage, checkpoint)
    spent_before_s = record.minutes * 60.0
    started_s = saved_s = time.monotonic()
    with _Progress(stage.title, quiet) as show:
        while True:
            now_s = time.monotonic()
            record.minutes = (spent_before_s + now_s - started_s) / 60.0
            fraction = _fraction(record, budget)
            show(fraction, record, budget)
            if fraction >= 1.0:
                return record
            loss, tokens = stage.step(fraction)
            record.steps += 1
            record.tokens += tokens
            record.loss = loss if record.steps == 1 else 0.95 * record.loss + 0.05 * loss
            if checkpoint is not None and now_s - saved_s > budget.checkpoint_every_s:
                _save(stage, record, checkpoint)
                saved_s = time.monotonic()


def _fraction(record: Record, budget: Budget) -> float:
    by_time = record.minutes / budget.minutes if budget.minutes > 0 else 1.0
    by_steps = record.steps / budget.most_steps if budget.most_steps else 0.0
    return min(1.0, max(by_time, by_steps))


def _resume(stage: Stage, checkpoint: Path | None) -> Record:
    if checkpoint is None or not checkpoint.is_file():
        return Record()
    try:
        saved = torch.load(checkpoint, weights_only=False)
        stage.restore(saved["stage"])
        return Record(**saved["record"])
    except (RuntimeError, KeyError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise EdgespecError(
            f"{checkpoint} does not fit this run: delete it to begin anew, or give the run's own options."
        ) from error


def _save(stage: Stage, record: Record, checkpoint: Path) -> None:
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    unfinished = checkpoint.with_suffix(".unfinished")
    torch.save({"stage": stage.state(), "record": record.to_json()}, unfinished)
    unfinished.replace(checkpoint)


class _Progress:
    """A rich bar on a terminal; a line every half minute where output goes to a file."""

    def __init__(self, title: str, quiet: bool) -> None:
        self._title = title
        self._console = Console(stderr=True, quiet=quiet)
        self._bar: Progress | None = None
        self._line_due_s = 0.0

    def __enter__(self) -> Callable[[float, Record, Budget], None]:
        if self._console.is_terminal:
            columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[status]}"))
            self._bar = Progress(*columns, console=self._console)
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=1.0, status="")
        return self._show

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def _show(self, fraction: float, record: Record, budget: Budget) -> None:
        left = record.minutes * (1.0 / fraction - 1.0) if fraction > 0 else budget.minutes
        seen = f"step {record.steps}  {record.tokens / 1e6:.2f} M tokens"
        status = f"loss {record.loss:.3f}  {seen}  {left:.1f} min left"
        if self._bar is not None:
            self._bar.update(self._task, completed=fraction, status=status)
        elif time.monotonic() >= self._line_due_s or fraction >= 1.0:
            self._line_due_s = time.monotonic() + 30.0
            self._console.print(f"{self._title}: {fraction:.0%}  {status}", highlight=False)
