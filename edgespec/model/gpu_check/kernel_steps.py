"""The steps of a check that time kernels alone, and look at their memory."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from edgespec.core.errors import EdgespecError, first_line
from edgespec.kernels.data import CELL_WORDS, Cells, Curves, Trees
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_hint import exit_hint
from edgespec.kernels.narrow_head import narrowed
from edgespec.kernels.verify import verify
from edgespec.model.gpu_check.inputs import (
    MODES,
    backend_of,
    columns,
    columns_on,
    exit_arguments,
    logits_of,
    samplings_of,
)
from edgespec.model.gpu_check.place import Place, Row

TIMEOUT_S = 120


def verify_times(place: Place) -> Iterator[Row]:
    for vocabulary in place.vocabularies:
        for rows in (1, 8):
            logits = logits_of(place, rows, vocabulary, place.dtype)
            for mode in MODES:
                how = Trees.single_rows(rows), columns(rows)["positions"], samplings_of(mode, rows)
                taken = place.median_us(lambda how=how, logits=logits: verify(logits, *how).on_host())  # type: ignore[misc]
                yield {"vocabulary": vocabulary, "rows": rows, "mode": mode, "us": taken}


def exit_times(place: Place) -> Iterator[Row]:
    """In a graph, as it is served; with the model's own head and, on a GPU, with one of 8 bits."""
    speed = place.bytes_per_us()
    yield {"what": "memory", "bytes_per_us": speed}
    for vocabulary, narrow in itertools.product(place.vocabularies, place.narrow_heads):
        for rows in (1, 8, 32):
            hidden, norm, head = exit_arguments(place, rows, vocabulary, place.dtype)
            weight, scales = narrowed(head) if narrow else (head, None)
            how = {**columns_on(place, rows), "scales": scales}
            run = place.captured(lambda given=(hidden, norm, weight), how=how: exit_head(*given, **how))  # type: ignore[misc]
            taken, floor = place.median_us(run), weight.nbytes / speed
            bits = 8 * weight.dtype.itemsize
            yield {
                "vocabulary": vocabulary,
                "bits": bits,
                "rows": rows,
                "us": taken,
                "of_floor": floor / taken,
            }


def hint_delay(place: Place) -> Iterator[Row]:
    """From an exit's launch until the host sees its cell. Raises EdgespecError where it never does."""
    write, taken = _exit(place), []
    for number in range(1, place.runs + 4):
        cells = _cells(place, number)
        place.wait()
        start_s = time.perf_counter()
        write(cells)
        while int(cells.words[number % 2, 0, 0, 0]) != number:
            if time.perf_counter() - start_s > TIMEOUT_S:
                raise EdgespecError("an exit's cell never came to the host's memory.")
        taken.append((time.perf_counter() - start_s) * 1e6)
    yield {"what": "from an exit's launch to its hint in host memory", "us": float(np.median(taken[3:]))}


def memory_checked(place: Place) -> Iterator[Row]:
    """The exits' cells under compute-sanitizer. Raises EdgespecError where it finds an error."""
    tool = shutil.which("compute-sanitizer")
    if place.device.type != "cuda" or tool is None:
        yield {"skipped": "there is no compute-sanitizer here" if tool is None else "the check runs on a CPU"}
        return
    command = [tool, "--error-exitcode", "9", sys.executable, "-m", __name__]
    done = subprocess.run(
        command, env=dict(os.environ), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if done.returncode:
        raise EdgespecError(
            f"compute-sanitizer: {first_line(Exception(done.stdout[-400:] + done.stderr[-400:]))}"
        )
    yield {"what": "exit_hint", "errors": 0}


def compiled_times(place: Place) -> Iterator[Row]:
    """torch.compile of the same, with its noise for nothing: a yardstick."""
    for vocabulary in place.vocabularies:
        given = exit_arguments(place, 8, vocabulary, place.dtype)
        noise = torch.randn(8, vocabulary, device=place.device)

        def in_torch(hidden: Any, norm: Any, head: Any, noise: Any) -> Any:
            x = torch.nn.functional.rms_norm(hidden, norm.shape, norm)
            return (torch.nn.functional.linear(x, head).float() + noise).topk(2)

        torch.compiler.reset()  # else those behind the eighth run eagerly
        compiled = torch.compile(in_torch, dynamic=False)
        taken = place.median_us(lambda given=given, noise=noise, own=compiled: own(*given, noise))  # type: ignore[misc]
        yield {"what": "exit_head in torch.compile", "vocabulary": vocabulary, "rows": 8, "us": taken}


def _cells(place: Place, number: int) -> Cells:
    words = torch.zeros((2, 1, 1, CELL_WORDS), dtype=torch.int32, pin_memory=place.device.type == "cuda")
    return Cells(words, torch.full((1,), number, dtype=torch.int32, device=place.device), 0)


def _exit(place: Place) -> Callable[[Cells], None]:
    """One row's exit, with everything that it needs on the device; writes the cells that it is given."""
    one = np.zeros(1, np.int32)

    def there(array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(place.device)

    with_seeds = {**columns(1), "seeds": np.full(1, 3), "curve_of": one}
    given: dict[str, Any] = {name: there(column) for name, column in with_seeds.items()}
    given["trees"] = Trees(there(np.array([0, 1], np.int32)), there(one - 1), there(one))
    given["curves"] = Curves(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.1, 1.0]]), (0.0,)).on(place.device)
    rows, backend = exit_arguments(place, 1, 320, torch.float32), backend_of(place)
    return lambda cells: exit_hint(*rows, **given, cells=cells, backend=backend)


if __name__ == "__main__":  # what `memory_checked` runs
    gpu = Place.on(torch.device("cuda"))
    _exit(gpu)(_cells(gpu, 1))
    gpu.wait()
