"""Folders that are whole or not there: how every stage leaves its result.

A stage works in `<folder>.unfinished` and is renamed when it is whole; its checkpoint lies there too, so that the same
command given again goes on where a killed run stopped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from edgespec.core.errors import EdgespecError
from edgespec.core.json_files import read_object
from edgespec.core.whole_files import save_json
from edgespec.train.loop import Record

TRAINING_FILE = "training.json"
CHECKPOINT_FILE = "checkpoint.pt"
RUN_FILE = "run.json"
SIGHT_FILE = "sight.pt"
LOCK_FILE = "lock"
WORK_FILES = (
    CHECKPOINT_FILE,
    RUN_FILE,
    SIGHT_FILE,
    LOCK_FILE,
    "tokens.bin",
    "learnt.bin",
    "material.json",
    "hidden.bin",
    "measured.jsonl",
)
"""What only an unfinished run needs."""


def is_finished(folder: Path) -> bool:
    """Whether a stage has left its result here."""
    return (folder / TRAINING_FILE).is_file()


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A work folder that takes the place of `folder` once the block ends well. Raises EdgespecError if something is
    there that this recipe did not make, or another run works there."""
    if folder.exists() and not is_finished(folder):
        raise EdgespecError(f"{folder} is there already and is not this recipe's: give --out another name.")
    unfinished = folder.with_name(folder.name + ".unfinished")
    unfinished.mkdir(parents=True, exist_ok=True)
    try:
        with _alone(unfinished):
            yield unfinished
    except KeyboardInterrupt:
        raise EdgespecError("interrupted: the same command goes on where it was.") from None
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise EdgespecError(
            f"the disk of {unfinished} is full: free some space and give the same command again; it goes on where it "
            "was."
        ) from None
    for name in WORK_FILES:
        (unfinished / name).unlink(missing_ok=True)
    for file in unfinished.iterdir():
        file.chmod(0o644)  # safetensors writes files that only their owner can read
    if folder.exists():
        shutil.rmtree(folder)
    unfinished.rename(folder)


@contextmanager
def _alone(work: Path) -> Iterator[None]:
    """Two runs in one work folder would write the same answers twice."""
    with (work / LOCK_FILE).open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise EdgespecError(f"another run works in {work}: wait for its end, or end it.") from None
        yield


def same_run(work: Path, **options: Any) -> None:
    """Note a run's options in its work folder. Raises EdgespecError where an unfinished run there had others."""
    file = work / RUN_FILE
    theirs = read_object(file, f"delete {work} to begin anew")
    if file.is_file() and theirs != options:
        changed = ", ".join(
            f"--{name.replace('_', '-')}" for name in options if theirs.get(name) != options[name]
        )
        raise EdgespecError(f"{work} is of a run with another {changed}: give its options, or delete it.")
    save_json(options, file)


def write_training(folder: Path, record: Record, seed: int, **more: Any) -> None:
    """Keep what the stage did, and on what, for the model card."""
    machine = {
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "processor": _processor(),
    }
    save_json({**asdict(record), "seed": seed, **machine, **more}, folder / TRAINING_FILE)


def read_training(folder: Path) -> dict[str, Any]:
    """What `write_training` kept; raises EdgespecError if the folder is no finished stage's."""
    if not is_finished(folder):
        raise EdgespecError(f"{folder} holds no {TRAINING_FILE}: give a folder that `edgespec train` wrote.")
    return read_object(folder / TRAINING_FILE, "train again")


def _processor() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
