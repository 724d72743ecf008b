"""What exit_head and verify cost on this machine's CPU beside torch, eager and compiled, and beside the memory's speed.

The floor is the bytes that must be read over the read bandwidth measured in the same run. All are timed in turn and
the medians kept; the baselines are given their noise for nothing. Behind `edgespec bench kernels`; needs torch.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_verdict import Trees
from edgespec.kernels.verify import Samplings, verify

SEED, TEMPERATURE, TOP_K, TOP_P, EPSILON = 3, 0.8, 50, 0.95, 1e-6

BANDWIDTH_BYTES = 256 << 20
"""Read for the bandwidth: more than caches hold."""


@dataclass(frozen=True)
class KernelTime:
    """One measured case; medians in milliseconds. dim is 0 for verify; compiled_ms None where it was left out."""

    kernel: str
    form: str
    dtype: str
    rows: int
    dim: int
    vocab: int
    threads: int
    ms: float
    eager_ms: float
    compiled_ms: float | None
    floor_ms: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def measure(
    shapes: Sequence[tuple[int, int]],
    rows: Sequence[int],
    dtypes: Sequence[str],
    *,
    threads: int = 1,
    repeats: int = 7,
    compiled: bool = True,
) -> Iterator[KernelTime]:
    """Every case of shapes (V, D), rows and dtypes, as each is done; sets torch's number of threads."""
    torch.set_num_threads(threads)
    bytes_per_ms = read_bandwidth() / 1e3
    for vocab, dim in shapes:
        for dtype in dtypes:
            head = torch.randn(vocab, dim).to(getattr(torch, dtype))
            for count in rows:
                case = exit_case(head, count)
                read = head.nbytes + count * dim * head.element_size()
                times = _times_ms(*case, compiled, repeats)
                yield KernelTime(
                    "exit_head", "cpu", dtype, count, dim, vocab, threads, *times, read / bytes_per_ms
                )
        for count in rows:
            logits = 3 * torch.randn(count, vocab)
            times = _times_ms(*verify_case(logits), compiled, repeats)
            floor_ms = logits.nbytes / bytes_per_ms
            yield KernelTime("verify", "cpu", "float32", count, 0, vocab, threads, *times, floor_ms)


def read_bandwidth(repeats: int = 5) -> float:
    """Bytes a second that torch's threads read from memory: the best of some sums over a large array."""
    words = torch.ones(BANDWIDTH_BYTES // 4)
    return BANDWIDTH_BYTES / min(_seconds(words.sum) for _ in range(repeats))


Case = tuple[Callable[[], Any], Callable[..., Any], tuple[torch.Tensor, ...]]
"""The kernel, torch doing the same, and what torch is given."""


def exit_case(head: torch.Tensor, rows: int) -> Case:
    """exit_head of random rows and this LM head [V, D], where it is."""
    vocab, dim = head.shape
    hidden = torch.randn(rows, dim, device=head.device).to(head.dtype)
    norm = torch.ones(dim, dtype=head.dtype, device=head.device)
    columns: dict[str, Any] = {
        "temperatures": np.full(rows, TEMPERATURE, np.float32),
        "seeds": np.full(rows, SEED, np.uint64),
        "positions": np.arange(rows, dtype=np.int32),
    }

    def in_torch(hidden: torch.Tensor, norm: torch.Tensor, head: torch.Tensor, noise: torch.Tensor) -> Any:
        x = torch.nn.functional.rms_norm(hidden, (dim,), norm, EPSILON)
        return _draw(torch.nn.functional.linear(x, head).float() / TEMPERATURE, noise)

    return (
        lambda: exit_head(hidden, norm, head, **columns),
        in_torch,
        (hidden, norm, head, _noise(rows, vocab, head.device)),
    )


def verify_case(logits: torch.Tensor) -> Case:
    """verify of each row of logits [R, V] by itself, where they are."""
    rows, vocab = logits.shape
    # A session a row: of one tree the kernel would decide only the rows on the path, and torch all of them.
    singles = Trees(
        np.arange(rows + 1, dtype=np.int32), np.full(rows, -1, np.int32), np.zeros(rows, np.int32)
    )
    sampling = Samplings.same(rows, temperature=TEMPERATURE, top_k=TOP_K, top_p=TOP_P, seed=SEED)
    positions = np.arange(rows, dtype=np.int32)

    def in_torch(logits: torch.Tensor, noise: torch.Tensor) -> Any:
        z = logits / TEMPERATURE
        z = z.masked_fill(z < z.topk(min(TOP_K, vocab)).values[:, -1:], float("-inf"))
        rising, order = z.sort(-1)
        drop = rising.softmax(-1).cumsum(-1) <= 1 - TOP_P
        z = z.masked_fill(drop.scatter(1, order, drop), float("-inf"))
        margin, token, _ = _draw(z, noise)
        return margin, token, logits.log_softmax(-1).gather(1, token[:, None])

    return (
        lambda: verify(logits, singles, positions, sampling, form="cpu"),
        in_torch,
        (logits, _noise(rows, vocab, logits.device)),
    )


def _draw(z: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Margin and token of the best noisy score, and the log-sum-exp."""
    best = (z + noise).topk(2)
    return best.values[:, 0] - best.values[:, 1], best.indices[:, 0], z.logsumexp(-1)


def _noise(rows: int, vocab: int, device: torch.device) -> torch.Tensor:
    return -torch.log(-torch.log(torch.rand(rows, vocab, device=device).clamp(1e-7, 1 - 1e-7)))


def _times_ms(
    kernel: Callable[[], Any],
    in_torch: Callable[..., Any],
    given: tuple[torch.Tensor, ...],
    compiled: bool,
    repeats: int,
) -> tuple[float, float, float | None]:
    """Medians of the kernel, eager torch and compiled torch, which take turns."""
    functions: list[Callable[[], Any]] = [kernel, lambda: in_torch(*given)]
    if compiled:
        getattr(torch.compiler, "reset")()  # noqa: B009 - untyped
        own: Any = torch.compile(in_torch, dynamic=False)
        functions.append(lambda: own(*given))
    with torch.inference_mode():
        for function in functions:
            function()
        turns = [[_seconds(function) * 1e3 for function in functions] for _ in range(repeats)]
    kernel_ms, eager_ms, *rest = (statistics.median(column) for column in zip(*turns, strict=True))
    return kernel_ms, eager_ms, rest[0] if rest else None


def _seconds(function: Callable[[], Any]) -> float:
    start_s = time.perf_counter()
    function()
    return time.perf_counter() - start_s
