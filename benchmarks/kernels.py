"""What the kernels `exit_head` and `verify` cost beside torch, eager and compiled, and beside the memory's speed.

    python -m benchmarks.kernels --shapes 128256x4096 --rows 1,8 --threads 1
    python -m benchmarks.kernels --device cuda

The floor is the bytes that must be read over the measured bandwidth of reading memory. On a CPU all take turns and the
medians count; on a GPU each is timed as a CUDA graph. torch is given its noise for nothing.
"""

from __future__ import annotations

import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from benchmarks.results import Results, Row, options
from edgespec.kernels.data import HeadSettings, Samplings, Trees
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.verify import verify

SEED, TEMPERATURE, EPSILON = 3, 0.8, 1e-6
SAMPLINGS = {"verify": (0.8, 50, 0.95), "verify_greedy": (0.0, 0, 1.0), "verify_open": (0.8, 0, 1.0)}
"""Temperature, top-k and top-p of each case of `verify`; `open` filters nothing."""

BANDWIDTH_BYTES = {"cpu": 256 << 20, "cuda": 2 << 30}
"""Read to measure the bandwidth: more than the caches hold."""

Case = tuple[Callable[[], Any], Callable[..., Any], tuple[torch.Tensor, ...]]
"""The kernel, torch doing the same, and what torch is given."""


def main() -> int:
    arguments = _arguments()
    load = f"Load average {os.getloadavg()[0]:.1f} before."
    notes = f"{load} Medians; kernel, torch and the reading of memory took turns."
    results = Results("kernels", notes, arguments.json)
    for threads in arguments.threads:
        torch.set_num_threads(threads)
        for row in measure(
            arguments.shapes, arguments.rows, arguments.dtypes, arguments.device, arguments.repeats, arguments.compiled
        ):  # fmt: skip
            results.add({**row, "threads": 0 if arguments.device == "cuda" else threads})
    return 0


def measure(
    shapes: Sequence[tuple[int, int]],
    rows: Sequence[int],
    dtypes: Sequence[str],
    device: str = "cpu",
    repeats: int = 7,
    compiled: bool = False,
) -> Iterator[Row]:
    """A row for every case of shapes (V, D), rows and dtypes, as each is done; medians in milliseconds."""
    memory = torch.ones(BANDWIDTH_BYTES[device] // 4, device=device)
    for vocab, dim in shapes:
        for dtype in dtypes:
            head = torch.randn(vocab, dim, device=device).to(getattr(torch, dtype))
            for count in rows:
                read_bytes = head.nbytes + count * dim * head.element_size()
                times = _times_ms(exit_case(head, count), memory, read_bytes, compiled, repeats)
                yield {"kernel": "exit_head", "device": device, "dtype": dtype, "rows": count, "dim": dim,
                       "vocab": vocab, **times}  # fmt: skip
            for count in rows:
                logits = (3 * torch.randn(count, vocab, device=device)).to(getattr(torch, dtype))
                for kernel in SAMPLINGS:
                    times = _times_ms(verify_case(logits, kernel), memory, logits.nbytes, compiled, repeats)
                    yield {"kernel": kernel, "device": device, "dtype": dtype, "rows": count, "dim": 0,
                           "vocab": vocab, **times}  # fmt: skip


def exit_case(head: torch.Tensor, rows: int) -> Case:
    """exit_head of random rows and this LM head [V, D], on its device."""
    vocab, dim = head.shape
    hidden = torch.randn(rows, dim, device=head.device).to(head.dtype)
    norm = torch.ones(dim, dtype=head.dtype, device=head.device)
    columns = {
        "temperatures": on(np.full(rows, TEMPERATURE, np.float32), head.device),
        "seeds": on(np.full(rows, SEED, np.uint64), head.device),
        "positions": on(np.arange(rows, dtype=np.int32), head.device),
    }

    def in_torch(hidden: torch.Tensor, norm: torch.Tensor, head: torch.Tensor, noise: torch.Tensor) -> Any:
        x = torch.nn.functional.rms_norm(hidden, (dim,), norm, EPSILON)
        z = torch.nn.functional.linear(x, head).float() / TEMPERATURE
        best = (z + noise).topk(2)
        return best.values[:, 0] - best.values[:, 1], best.indices[:, 0]

    noise = _noise(rows, vocab, head.device)
    kernel = lambda: exit_head(hidden, norm, head, **columns, settings=HeadSettings(EPSILON))  # noqa: E731
    return kernel, in_torch, (hidden, norm, head, noise)


def verify_case(logits: torch.Tensor, kernel: str) -> Case:
    """verify of each row of logits [R, V], a session of its own, on its device; kernel: a name in SAMPLINGS."""
    temperature, top_k, top_p = SAMPLINGS[kernel]
    rows, vocab = logits.shape
    singles = dataclasses.replace(Trees.single_rows(rows), largest=1)
    columns = (
        (temperature, float),
        (top_k, np.int32),
        (top_p, float),
        (0, float),
        (1, float),
        (SEED, np.uint64),
    )
    sampling = Samplings(*(np.full(rows, value, kind) for value, kind in columns))
    given = [on(one, logits.device) for one in (singles, np.arange(rows, dtype=np.int32), sampling)]

    def in_torch(logits: torch.Tensor, noise: torch.Tensor) -> Any:
        z = raw = logits.float()
        if temperature:
            z = z / temperature
        if top_k:
            z = z.masked_fill(z < z.topk(min(top_k, vocab)).values[:, -1:], float("-inf"))
        if top_p < 1:
            rising, order = z.sort(-1)
            drop = rising.softmax(-1).cumsum(-1) <= 1 - top_p
            z = z.masked_fill(drop.scatter(1, order, drop), float("-inf"))
        best = (z + noise if temperature else z).topk(2)
        token = best.indices[:, :1]
        return best.values[:, 0] - best.values[:, 1], token, raw.log_softmax(-1).gather(1, token)

    return lambda: verify(logits, *given), in_torch, (logits, _noise(rows, vocab, logits.device))


def on(value: Any, device: torch.device) -> Any:
    """numpy arrays, alone or in a dataclass, as tensors of a GPU; as they are for the CPU."""
    if device.type == "cpu" or value is None or isinstance(value, int):
        return value
    if dataclasses.is_dataclass(value):
        fields = {field.name: on(getattr(value, field.name), device) for field in dataclasses.fields(value)}
        return type(value)(**fields)
    return torch.from_numpy(value.view(np.int64) if value.dtype == np.uint64 else value).to(device)


def _noise(rows: int, vocab: int, device: torch.device) -> torch.Tensor:
    return -torch.log(-torch.log(torch.rand(rows, vocab, device=device).clamp(1e-7, 1 - 1e-7)))


def _times_ms(
    case: Case, memory: torch.Tensor, read_bytes: int, compiled: bool, repeats: int
) -> dict[str, float | None]:
    kernel, in_torch, given = case
    functions: list[Callable[[], Any]] = [memory.sum, kernel, lambda: in_torch(*given)]
    if compiled:
        torch.compiler.reset()
        own: Any = torch.compile(in_torch, dynamic=False)
        functions.append(lambda: own(*given))
    with torch.inference_mode():
        if memory.is_cuda:
            from triton.testing import do_bench_cudagraph

            medians = [float(do_bench_cudagraph(function, return_mode="median")) for function in functions]
        else:
            turns = [[_warm_ms(function) for function in functions] for _ in range(repeats)]
            medians = [statistics.median(column) for column in zip(*turns, strict=True)]
    all_ms, kernel_ms, eager_ms, *rest = medians
    return {"ms": kernel_ms, "eager_ms": eager_ms, "compiled_ms": rest[0] if rest else None,
            "floor_ms": all_ms * read_bytes / memory.nbytes}  # fmt: skip


def _warm_ms(function: Callable[[], Any]) -> float:
    """The second of two runs: the function before has left its own data in the caches."""
    function()
    start_s = time.perf_counter()
    function()
    return (time.perf_counter() - start_s) * 1e3


def _arguments() -> Any:
    threads = sorted({1, len(os.sched_getaffinity(0))})
    quick = {"shapes": ["512x64"], "rows": [1, 3], "threads": [1], "repeats": 1}
    arguments = options(
        "kernels", __doc__, quick, device=("cpu", "or cuda"), threads=threads, repeats=7,
        shapes=(["32000x4096", "128256x4096"], "vocabulary x width"), rows=([1, 4, 8, 32], "64 at most"),
        dtypes=["float32", "bfloat16", "float16"], compiled=(False, "torch.compile too"),
    )  # fmt: skip
    pairs = [one.split("x") for one in arguments.shapes]
    arguments.shapes = [(int(vocab), int(dim)) for vocab, dim in pairs]
    return arguments


if __name__ == "__main__":
    sys.exit(main())
