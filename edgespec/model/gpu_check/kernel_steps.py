"""The steps of a check that run kernels alone: against the CPU's, and their times."""

from __future__ import annotations

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
from edgespec.kernels.arguments import on_host
from edgespec.kernels.data import CELL_WORDS, Cells, Curves, Samplings, Trees
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_hint import exit_hint
from edgespec.kernels.verify import verify
from edgespec.model.backends import backend_on
from edgespec.model.gpu_check.place import Place, Row

NEAR_TIE = 1e-3
"""A margin below which float32 scores of two machines may choose different tokens."""

MODES = {"greedy": (0.0, 0, 1.0), "open": (0.8, 0, 1.0), "top-k + top-p": (0.8, 50, 0.95)}
"""Temperature, top-k and top-p."""

TIMEOUT_S = 120


def kernels_agree(place: Place) -> Iterator[Row]:
    """Tokens of both kernels are the CPU's. Raises EdgespecError where they are not."""
    backend = _backend(place)
    for rows in (1, 8, 33):
        given = _exit_arguments(place, rows, 997, torch.float32)
        wanted = exit_head(*(one.cpu() for one in given), **_columns(rows), backend="cpu")
        got = exit_head(*given, **_columns(rows), backend=backend)
        yield _compared(f"exit_head, {rows} rows", got.tokens, wanted.tokens, wanted.margins)
        for mode in MODES:
            logits = _logits(place, rows, 997, torch.float32)
            how = Trees.single_rows(rows), _columns(rows)["positions"], _samplings(mode, rows)
            want = verify(logits.cpu(), *how, backend="cpu")
            found = verify(logits, *how, backend=backend).on_host()
            yield _compared(f"verify {mode}, {rows} rows", found.tokens, want.tokens, want.margins[:, 0])


def verify_times(place: Place) -> Iterator[Row]:
    for vocabulary in place.vocabularies:
        for rows in (1, 8):
            logits = _logits(place, rows, vocabulary, place.dtype)
            for mode in MODES:
                how = Trees.single_rows(rows), _columns(rows)["positions"], _samplings(mode, rows)
                taken = place.median_us(lambda how=how, logits=logits: verify(logits, *how).on_host())  # type: ignore[misc]
                yield {"vocabulary": vocabulary, "rows": rows, "mode": mode, "us": taken}


def exit_times(place: Place) -> Iterator[Row]:
    speed = place.bytes_per_us()
    yield {"what": "memory", "bytes_per_us": speed}
    for vocabulary in place.vocabularies:
        for rows in (1, 8, 32):
            given = _exit_arguments(place, rows, vocabulary, place.dtype)
            columns = _columns(rows)
            taken = place.median_us(lambda given=given, columns=columns: exit_head(*given, **columns))  # type: ignore[misc]
            floor = given[2].nbytes / speed
            yield {"vocabulary": vocabulary, "rows": rows, "us": taken, "of_floor": floor / taken}


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
        given = _exit_arguments(place, 8, vocabulary, place.dtype)
        noise = torch.randn(8, vocabulary, device=place.device)

        def in_torch(hidden: Any, norm: Any, head: Any, noise: Any) -> Any:
            x = torch.nn.functional.rms_norm(hidden, norm.shape, norm)
            return (torch.nn.functional.linear(x, head).float() + noise).topk(2)

        torch.compiler.reset()  # else those behind the eighth run eagerly
        compiled = torch.compile(in_torch, dynamic=False)
        taken = place.median_us(lambda given=given, noise=noise, own=compiled: own(*given, noise))  # type: ignore[misc]
        yield {"what": "exit_head in torch.compile", "vocabulary": vocabulary, "rows": 8, "us": taken}


def _backend(place: Place) -> str:
    backend = backend_on(place.device)
    if backend is None:
        raise EdgespecError("no kernel runs on this device: the log says why.")
    return backend


def _exit_arguments(place: Place, rows: int, vocabulary: int, dtype: torch.dtype) -> list[torch.Tensor]:
    random = torch.Generator(place.device).manual_seed(11)
    shapes = (rows, place.width), (place.width,), (vocabulary, place.width)
    hidden, norm, head = (torch.randn(one, generator=random, device=place.device) for one in shapes)
    return [one.to(dtype) for one in (hidden, norm.abs() + 0.5, head / 8)]


def _logits(place: Place, rows: int, vocabulary: int, dtype: torch.dtype) -> torch.Tensor:
    random = torch.Generator(place.device).manual_seed(11)
    return (3 * torch.randn(rows, vocabulary, generator=random, device=place.device)).to(dtype)


def _columns(rows: int) -> dict[str, Any]:
    temperatures = np.where(np.arange(rows) % 2, 0.8, 0.0).astype(np.float32)
    positions = np.arange(rows, dtype=np.int32) + 50
    return {"temperatures": temperatures, "seeds": np.full(rows, 3, np.uint64), "positions": positions}


def _samplings(mode: str, rows: int) -> Samplings:
    temperature, top_k, top_p = MODES[mode]
    columns = (temperature, float), (top_k, np.int32), (top_p, float), (0, float), (1, float), (3, np.uint64)
    return Samplings(*(np.full(rows, value, kind) for value, kind in columns))


def _compared(what: str, got: Any, wanted: Any, margins: Any) -> Row:
    others = np.flatnonzero((on_host(got) != on_host(wanted)) & (on_host(margins) > NEAR_TIE))
    if len(others):
        raise EdgespecError(f"{what}: rows {others.tolist()} decide other tokens than the CPU's.")
    return {"what": what, "same": True}


def _cells(place: Place, number: int) -> Cells:
    words = torch.zeros((2, 1, 1, CELL_WORDS), dtype=torch.int32, pin_memory=place.device.type == "cuda")
    return Cells(words, torch.full((1,), number, dtype=torch.int32, device=place.device), 0)


def _exit(place: Place) -> Callable[[Cells], None]:
    """One row's exit, with everything that it needs on the device; writes the cells that it is given."""
    one = np.zeros(1, np.int32)

    def there(array: Any) -> torch.Tensor:
        return torch.from_numpy(array).to(place.device)

    columns = {**_columns(1), "seeds": np.full(1, 3), "curve_of": one}
    given: dict[str, Any] = {name: there(column) for name, column in columns.items()}
    given["trees"] = Trees(there(np.array([0, 1], np.int32)), there(one - 1), there(one))
    given["curves"] = Curves(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.1, 1.0]]), (0.0,)).on(place.device)
    rows, backend = _exit_arguments(place, 1, 320, torch.float32), _backend(place)
    return lambda cells: exit_hint(*rows, **given, cells=cells, backend=backend)


if __name__ == "__main__":  # what `memory_checked` runs
    gpu = Place.on(torch.device("cuda"))
    _exit(gpu)(_cells(gpu, 1))
    gpu.wait()
