"""Runs the steps of a check one after the other, and keeps what each found as soon as it ends."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from edgespec._version import __version__
from edgespec.core.errors import EdgespecError, first_line
from edgespec.core.whole_files import save_json
from edgespec.kernels.launching import triton_version
from edgespec.model.backends import working_on
from edgespec.model.gpu_check import agreement, attention_steps, forward_steps, graph_steps, kernel_steps
from edgespec.model.gpu_check.place import Place, Row

Step = Callable[[Place], Iterator[Row]]

STEPS: dict[str, Step] = {
    "kernels": agreement.kernels_agree,
    "texts": forward_steps.texts_agree,
    "nodes": graph_steps.nodes_of_a_layer,
    "forward": forward_steps.forward_times,
    "exits": graph_steps.exits_add,
    "host": graph_steps.host_times,
    "verify": kernel_steps.verify_times,
    "exit_head": kernel_steps.exit_times,
    "attention": attention_steps.attention_times,
    "sanitizer": kernel_steps.memory_checked,
    "hint_delay": kernel_steps.hint_delay,
    "compiled": kernel_steps.compiled_times,
}
"""The most valuable first: a lease may end at any time."""


def run(
    device: torch.device,
    file: Path | None,
    resume: bool,
    report: Callable[[str, Row], Any],
    steps: dict[str, Step],
) -> int:
    """How many steps failed. file: gets everything after each step. resume: leave out what it says is done. report: is
    told each row. Raises EdgespecError for a file that is another machine's."""
    place = Place.on(device)
    found = _found(place, file, resume)
    for name, step in steps.items():
        if "rows" in found["steps"].get(name, {}):
            continue
        found["steps"][name] = _run_step(name, step, place, report)
        if file is not None:
            save_json(found, file)
    return sum("failed" in found["steps"][name] for name in steps)


def _run_step(name: str, step: Step, place: Place, report: Callable[[str, Row], Any]) -> dict[str, Any]:
    """What a step found: its rows, or why it failed beside those that it had."""
    rows: list[Row] = []
    start_s = time.perf_counter()
    try:
        with working_on(place.device):
            for row in step(place):
                rows.append(row)
                report(name, row)
    except Exception as error:  # whatever a GPU makes of it: the other steps still run
        reason = (
            str(error) if isinstance(error, EdgespecError) else f"{type(error).__name__}: {first_line(error)}"
        )
        report(name, {"failed": reason})
        return {"failed": reason, "before": rows}
    return {"seconds": round(time.perf_counter() - start_s, 1), "rows": rows}


def _found(place: Place, file: Path | None, resume: bool) -> dict[str, Any]:
    """What the file holds of this machine, or nothing yet."""
    here = {
        "hardware": place.name,
        "edgespec": __version__,
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "triton": triton_version(),
        "transformers": transformers.__version__,
        "numpy": np.__version__,
    }
    if not resume:
        return {**here, "steps": {}}
    if file is None:
        raise EdgespecError("--resume goes on with a file: name it with --json.")
    if not file.exists():
        return {**here, "steps": {}}
    try:
        before: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        same = {name: before[name] for name in here} == here and isinstance(before["steps"], dict)
    except (ValueError, KeyError, TypeError):
        same = False
    if not same:
        raise EdgespecError(
            f"{file} is of another machine or other versions: leave --resume off, or name another."
        )
    return before
