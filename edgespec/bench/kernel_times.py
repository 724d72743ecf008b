"""What exit_head and verify cost on this machine's CPU beside torch, eager and compiled, and beside the memory's speed.

The floor is the bytes that must be read over the bandwidth of reading memory. All are timed in turn, that reading too,
and the medians kept; the baselines are given their noise for nothing. Behind `edgespec bench kernels`; needs torch.
"""

from __future__ import annotations

import itertools
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

SAMPLINGS = {
    "verify": (TEMPERATURE, TOP_K, TOP_P),
    "verify_greedy": (0.0, 0, 1.0),
    "verify_open": (TEMPERATURE, 0, 1.0),
}
"""Temperature, top-k and top-p of each case of verify; `open` filters nothing."""

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
    memory = torch.ones(BANDWIDTH_BYTES // 4)
    for vocab, dim in shapes:
        for dtype in dtypes:
            head = torch.randn(vocab, dim).to(getattr(torch, dtype))
            for count in rows:
                case = exit_case(head, count)
                read = head.nbytes + count * dim * head.element_size()
                times = _times_ms(*case, memory, read, compiled, repeats)
                yield KernelTime("exit_head", "cpu", dtype, count, dim, vocab, threads, *times)
            for count, kernel in itertools.product(rows, SAMPLINGS):
                logits = (3 * torch.randn(count, vocab)).to(getattr(torch, dtype))
                case = verify_case(logits, kernel)
                times = _times_ms(*case, memory, logits.nbytes, compiled, repeats)
                yield KernelTime(kernel, "cpu", dtype, count, 0, vocab, threads, *times)


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
        z = torch.nn.functional.linear(x, head).float() / TEMPERATURE
        best = (z + noise).topk(2)
        return best.values[:, 0] - best.values[:, 1], best.indices[:, 0], z.logsumexp(-1)

    return (
        lambda: exit_head(hidden, norm, head, **columns),
        in_torch,
        (hidden, norm, head, _noise(rows, vocab, head.device)),
    )


def verify_case(logits: torch.Tensor, kernel: str = "verify") -> Case:
    """verify of each row of logits [R, V] by itself, where they are; kernel: a name in SAMPLINGS."""
    temperature, top_k, top_p = SAMPLINGS[kernel]
    rows, vocab = logits.shape
    # A session a row: of one tree the kernel would decide only the rows on the path, and torch all of them.
    singles = Trees(
        np.arange(rows + 1, dtype=np.int32), np.full(rows, -1, np.int32), np.zeros(rows, np.int32)
    )
    sampling = Samplings.same(rows, temperature=temperature, top_k=top_k, top_p=top_p, seed=SEED)
    positions = np.arange(rows, dtype=np.int32)

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

    return (
        lambda: verify(logits, singles, positions, sampling, backend="cpu"),
        in_torch,
        (logits, _noise(rows, vocab, logits.device)),
    )


def _noise(rows: int, vocab: int, device: torch.device) -> torch.Tensor:
    return -torch.log(-torch.log(torch.rand(rows, vocab, device=device).clamp(1e-7, 1 - 1e-7)))


def _times_ms(
    kernel: Callable[[], Any],
    in_torch: Callable[..., Any],
    given: tuple[torch.Tensor, ...],
    memory: torch.Tensor,
    read_bytes: int,
    compiled: bool,
    repeats: int,
) -> tuple[float, float, float | None, float]:
    """Medians of the kernel, eager torch, compiled torch and the reading of so many bytes of `memory`, in turns; each
    is run untimed before it is timed, for the one before it leaves its own data in the caches."""
    functions: list[Callable[[], Any]] = [memory.sum, kernel, lambda: in_torch(*given)]
    if compiled:
        getattr(torch.compiler, "reset")()  # noqa: B009 - untyped
        own: Any = torch.compile(in_torch, dynamic=False)
        functions.append(lambda: own(*given))
    with torch.inference_mode():
        turns = [[_warm_seconds(function) * 1e3 for function in functions] for _ in range(repeats)]
    all_ms, kernel_ms, eager_ms, *rest = (statistics.median(column) for column in zip(*turns, strict=True))
    return kernel_ms, eager_ms, rest[0] if rest else None, all_ms * read_bytes / memory.nbytes


def _warm_seconds(function: Callable[[], Any]) -> float:
    function()
    start_s = time.perf_counter()
    function()
    return time.perf_counter() - start_s
