"""The loop under every stage: step until the budget of minutes is spent, show progress, keep checkpoints.

A run that ended early goes on from its last checkpoint with the minutes that were left.
"""

from __future__ import annotations

import math
import pickle
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from edgespec.core.errors import EdgespecError, first_line
from edgespec.train.progress import progress_bar
from edgespec.train.stage import Stage


@dataclass(frozen=True)
class Budget:
    """How long a stage may train: minutes of its own, or fewer steps if `most_steps` is given."""

    minutes: float
    most_steps: int | None = None
    checkpoint_every_s: float = 60.0


@dataclass
class Record:
    """What a stage did, for its report. loss: a running mean."""

    minutes: float = 0.0
    steps: int = 0
    tokens: int = 0
    loss: float = 0.0

    def fraction(self, budget: Budget) -> float:
        """Of the budget."""
        by_time = self.minutes / budget.minutes if budget.minutes > 0 else 1.0
        by_steps = self.steps / budget.most_steps if budget.most_steps else 0.0
        return min(1.0, max(by_time, by_steps))


def train(stage: Stage, budget: Budget, checkpoint: Path, quiet: bool = False) -> Record:
    """Run `stage` until its budget is spent; resumes from `checkpoint` if that file exists. Raises EdgespecError where
    that is another run's, or the run must end early: it can go on then."""
    record = _resumed(stage, checkpoint)
    begun = record.steps
    try:
        _steps(stage, budget, record, checkpoint, quiet)
    except KeyboardInterrupt:
        if record.steps > begun:
            _save(stage, record, checkpoint)
        raise EdgespecError(
            f"interrupted after {record.steps} steps: the same command goes on from there."
        ) from None
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and "can't allocate memory" not in str(error):
            raise
        raise EdgespecError(
            f"the memory is full after {record.steps} steps: give the same command with half of --batch-tokens and "
            "twice --accumulate; it goes on from its last checkpoint."
        ) from None
    return record


def _steps(stage: Stage, budget: Budget, record: Record, checkpoint: Path, quiet: bool) -> None:
    started_s = time.monotonic() - record.minutes * 60.0
    saved_s = time.monotonic()
    with _progress(stage.title, quiet) as bar:
        while True:
            now_s = time.monotonic()
            record.minutes = (now_s - started_s) / 60.0
            fraction = record.fraction(budget)
            bar.set_postfix_str(
                f"loss {record.loss:.3f}, step {record.steps}, {record.tokens / 1e6:.2f} M tokens",
                refresh=False,
            )
            bar.update(fraction - bar.n)
            if fraction >= 1.0:
                return
            loss, tokens = stage.step(fraction)
            if not math.isfinite(loss):
                raise EdgespecError(
                    f"the loss is not a finite number at step {record.steps + 1}: the target's weights may be damaged, "
                    "or its dtype overflows; the checkpoint before is kept."
                )
            record.steps += 1
            record.tokens += tokens
            record.loss = loss if record.steps == 1 else 0.95 * record.loss + 0.05 * loss
            if now_s - saved_s > budget.checkpoint_every_s:
                _save(stage, record, checkpoint)
                saved_s = time.monotonic()


def _progress(title: str, quiet: bool) -> tqdm[None]:
    form = "{desc}: {percentage:3.0f}% |{bar:20}| {elapsed}<{remaining}{postfix}"
    return progress_bar(title, 1.0, quiet, miniters=0, bar_format=form)


def _resumed(stage: Stage, checkpoint: Path) -> Record:
    if not checkpoint.is_file():
        return Record()
    try:
        saved = torch.load(checkpoint, weights_only=True, map_location="cpu")
        stage.restore(saved["stage"])
        return Record(**saved["record"])
    except (RuntimeError, KeyError, ValueError, TypeError, EOFError, pickle.UnpicklingError) as error:
        raise EdgespecError(
            f"{checkpoint} does not fit this run: delete it to begin anew, or give the run's own options."
        ) from error


def _save(stage: Stage, record: Record, checkpoint: Path) -> None:
    unfinished = checkpoint.with_suffix(".unfinished")
    try:
        torch.save({"stage": stage.state(), "record": asdict(record)}, unfinished)
        unfinished.replace(checkpoint)
    except (OSError, RuntimeError) as error:
        unfinished.unlink(missing_ok=True)
        raise EdgespecError(
            f"the checkpoint {checkpoint} cannot be written ({first_line(error)}): free some space and give the same "
            "command again; it goes on from the checkpoint before."
        ) from None
