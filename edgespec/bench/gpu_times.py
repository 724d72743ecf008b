"""What exit_head and verify cost on a GPU beside torch, eager and compiled, and beside the memory's speed.

Each is timed as a CUDA graph, so that the time of launches is nobody's. The cases are kernel_times'. Needs a GPU, and
has not run on one yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from edgespec.bench.kernel_times import (
    EPSILON,
    SEED,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    KernelTime,
    exit_case,
    verify_case,
)
from edgespec.kernels.exit_head import HeadSettings, exit_head
from edgespec.kernels.exit_verdict import Trees
from edgespec.kernels.verify import Samplings, verify

BANDWIDTH_BYTES = 2 << 30
"""Read for the bandwidth: more than caches hold."""

VERIFY_SESSIONS, VERIFY_ROWS = 32, 8


def measure(
    shapes: Sequence[tuple[int, int]], rows: Sequence[int], dtypes: Sequence[str], *, compiled: bool = True
) -> Iterator[KernelTime]:
    """Every case of shapes (V, D), rows and dtypes, as each is done; then verify of 32 sessions of 8 rows."""
    device = torch.device("cuda")
    words = torch.ones(BANDWIDTH_BYTES // 4, device=device)
    bytes_per_ms = BANDWIDTH_BYTES / median_ms(words.sum)
    del words
    for vocab, dim in shapes:
        for dtype in dtypes:
            head = torch.randn(vocab, dim, device=device).to(getattr(torch, dtype))
            for count in rows:
                _, in_torch, given = exit_case(head, count)
                times = _times(_exit_launch(*given[:3]), in_torch, given, compiled)
                floor_ms = (head.nbytes + given[0].nbytes) / bytes_per_ms
                yield KernelTime("exit_head", "triton", dtype, count, dim, vocab, 0, *times, floor_ms)
        count = VERIFY_SESSIONS * VERIFY_ROWS
        logits = 3 * torch.randn(count, vocab, device=device)
        _, in_torch, given = verify_case(logits)
        times = _times(_verify_launch(logits), in_torch, given, compiled)
        yield KernelTime(
            "verify", "triton", "float32", count, 0, vocab, 0, *times, logits.nbytes / bytes_per_ms
        )


def median_ms(function: Callable[[], Any]) -> float:
    """Of one run, by a CUDA graph of many."""
    from triton.testing import do_bench_cudagraph

    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        return float(do_bench_cudagraph(function, return_mode="median"))


def _times(
    kernel: Callable[[], Any],
    in_torch: Callable[..., Any],
    given: tuple[torch.Tensor, ...],
    compiled: bool,
) -> tuple[float, float, float | None]:
    compiled_ms = None
    if compiled:
        own: Any = torch.compile(in_torch, dynamic=False)
        compiled_ms = median_ms(lambda: own(*given))
    return median_ms(kernel), median_ms(lambda: in_torch(*given)), compiled_ms


def _exit_launch(hidden: torch.Tensor, norm: torch.Tensor, head: torch.Tensor) -> Callable[[], Any]:
    """Everything that it needs is on the device, as in a captured forward."""
    rows, device = len(hidden), hidden.device
    columns: dict[str, Any] = {
        "temperatures": torch.full((rows,), TEMPERATURE, device=device),
        "seeds": torch.full((rows,), SEED, device=device),
        "positions": torch.arange(rows, dtype=torch.int32, device=device),
        "draft_tokens": torch.full((rows,), -1, dtype=torch.int32, device=device),
    }
    return lambda: exit_head(hidden, norm, head, **columns, settings=HeadSettings(EPSILON))


def _verify_launch(logits: torch.Tensor) -> Callable[[], Any]:
    """Sessions whose drafts are chains that are refused at once: all rows are decided nevertheless."""
    device, sessions = logits.device, VERIFY_SESSIONS

    def column(value: float, dtype: torch.dtype = torch.float64) -> torch.Tensor:
        return torch.full((sessions,), value, dtype=dtype, device=device)

    def integers(values: torch.Tensor) -> torch.Tensor:
        return values.to(torch.int32).to(device)

    trees = Trees(
        integers(torch.arange(sessions + 1) * VERIFY_ROWS),
        integers(torch.arange(-1, VERIFY_ROWS - 1).repeat(sessions)),
        integers(torch.zeros(len(logits))),
        largest=VERIFY_ROWS,
    )
    samplings = Samplings(
        column(TEMPERATURE),
        column(TOP_K, torch.int32),
        column(TOP_P),
        column(0.0),
        column(1.0),
        column(SEED, torch.int64),
        column(0, torch.bool),
    )
    positions = torch.arange(len(logits), dtype=torch.int32, device=device)
    return lambda: verify(logits, trees, positions, samplings)
