"""The kernels beside torch doing the same, and beside the memory's own speed: exit_head and verify on the CPU.

    python -m benchmarks.kernels --json docs/results/kernels.json

An exit must read the LM head once: the roof is a plain copy of as many bytes, in the same run. Kernel and baseline are
timed in turn (A B A B); figures are medians. One thread.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.results import FOLDER, results, save
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_verdict import Trees
from edgespec.kernels.verify import Samplings, verify
from edgespec.params import SamplingParams
from edgespec.target.sampling import Rows, in_torch

MODELS = {"bundled": (4096, 320), "7B": (32000, 4096), "8B, large vocabulary": (128256, 4096)}
NOTES = "One thread on CPUs that other work shares; ratios are of medians in the same run."
SEED = 3


def main() -> int:
    arguments = _arguments()
    torch.set_num_threads(1)
    repeats = 3 if arguments.quick else 9
    models = {"bundled": MODELS["bundled"]} if arguments.quick else MODELS
    cells = []
    for name, (vocabulary, dim) in models.items():
        for rows in (1, 8, 32):
            for dtype in (torch.float32, torch.bfloat16):
                cells.append(_exit_head(name, vocabulary, dim, rows, dtype, repeats))
                _say(cells[-1])
            for parameters in ({"temperature": 0.8}, {"temperature": 0.8, "top_k": 50, "top_p": 0.95}):
                cells.append(_verify(name, vocabulary, rows, parameters, repeats))
                _say(cells[-1])
        save(results("kernels", cells, NOTES), arguments.json)
    return 0


def _exit_head(
    model: str, vocabulary: int, dim: int, rows: int, dtype: torch.dtype, repeats: int
) -> dict[str, Any]:
    head = torch.randn(vocabulary, dim).to(dtype)
    hidden, norm = torch.randn(rows, dim).to(dtype), torch.ones(dim, dtype=dtype)
    temperatures, positions = np.full(rows, 0.8, np.float32), np.arange(rows, dtype=np.int32)
    seeds = np.full(rows, SEED, np.uint64)
    words = head.view(torch.int16 if dtype == torch.bfloat16 else torch.int32).numpy()
    copied = np.empty_like(words)

    def kernel() -> Any:
        return exit_head(
            hidden, norm, head, temperatures=temperatures, seeds=seeds, positions=positions, threads=1
        )

    def in_torch_itself() -> Any:
        logits = torch.nn.functional.rms_norm(hidden, (dim,), norm, 1e-6) @ head.T
        return in_torch(logits, [Rows(SamplingParams(temperature=0.8), SEED, positions)])

    def copy() -> None:
        np.copyto(copied, words)

    kernel_ms, torch_ms, copy_ms = _times_ms([kernel, in_torch_itself, copy], repeats)
    gigabytes = head.numel() * head.element_size() / 1e9
    return {
        "kernel": "exit_head",
        "model": model,
        "vocabulary": vocabulary,
        "dim": dim,
        "rows": rows,
        "dtype": str(dtype).removeprefix("torch."),
        "ms": kernel_ms,
        "torch_ms": torch_ms,
        "speed_vs_torch": torch_ms / kernel_ms,
        "head_gb_per_s": gigabytes / kernel_ms * 1e3,
        "share_of_a_plain_copy": copy_ms / kernel_ms,
    }


def _verify(
    model: str, vocabulary: int, rows: int, parameters: dict[str, Any], repeats: int
) -> dict[str, Any]:
    logits = 3 * torch.randn(rows, vocabulary)
    singles = Trees(  # every row is decided, as torch does it
        np.arange(rows + 1, dtype=np.int32), np.full(rows, -1, np.int32), np.zeros(rows, np.int32)
    )
    positions = np.arange(rows, dtype=np.int32)
    sampling, own = SamplingParams(**parameters), Samplings.same(rows, seed=SEED, **parameters)

    def kernel() -> Any:
        return verify(logits, singles, positions, own, form="cpu", threads=1)

    def in_torch_itself() -> Any:
        return in_torch(logits, [Rows(sampling, SEED, positions)])

    kernel_ms, torch_ms = _times_ms([kernel, in_torch_itself], repeats)
    return {
        "kernel": "verify",
        "model": model,
        "vocabulary": vocabulary,
        "rows": rows,
        "parameters": parameters,
        "ms": kernel_ms,
        "torch_ms": torch_ms,
        "speed_vs_torch": torch_ms / kernel_ms,
    }


def _times_ms(functions: list[Callable[[], Any]], repeats: int) -> list[float]:
    """Medians, the functions taking turns."""
    for function in functions:
        function()
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats):
        for function, own in zip(functions, times, strict=True):
            start_s = time.perf_counter()
            function()
            own.append((time.perf_counter() - start_s) * 1e3)
    return [statistics.median(own) for own in times]


def _say(cell: dict[str, Any]) -> None:
    what = cell.get("dtype") or ", ".join(f"{name} {value}" for name, value in cell["parameters"].items())
    roof = cell.get("share_of_a_plain_copy")
    more = f", {cell['head_gb_per_s']:.1f} GB/s of the head, {roof:.2f} of a plain copy" if roof else ""
    print(
        f"{cell['kernel']}, {cell['model']}, {cell['rows']} rows, {what}: {cell['ms']:.2f} ms, "
        f"{cell['speed_vs_torch']:.2f} times torch{more}",
        flush=True,
    )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, default=FOLDER / "kernels.json")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
