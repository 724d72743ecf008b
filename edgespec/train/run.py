"""The options that the stages of training share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Run:
    """data: files and folders; none: the corpus of the bundled pair, from `corpus` if that is given. max_tokens: of the
    data that are used. batch_tokens: of one forward; window_tokens: of the longest text in it; accumulate: batches of
    one update. self_generated: answers of the target to train on, 0: the data itself. new_tokens: the longest such
    answer. measured: held-out prompts, answered at each temperature. cache_mib: hidden rows of the target kept on disk.
    device, dtype: of the target, as `serve` takes them."""

    data: tuple[Path, ...] = ()
    corpus: Path | None = None
    minutes: float = 30.0
    max_steps: int | None = None
    seed: int = 0
    max_tokens: int = 50_000_000
    batch_tokens: int = 2048
    window_tokens: int = 2048
    accumulate: int = 1
    self_generated: int = 0
    new_tokens: int = 160
    measured: int = 32
    cache_mib: int = 256
    device: str = "auto"
    dtype: str = "auto"
    threads: int | None = None
    quiet: bool = False
