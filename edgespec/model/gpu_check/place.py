"""Where a check runs, how large it is there, and how it measures."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from edgespec.kernels.variants import FLOAT8_ARCHITECTURE
from edgespec.model.cuda_graphs import CudaCapture
from edgespec.model.float8_pool import architecture_of

WARM_UPS, LONGEST_S = 3, 3.0
"""Of a timed function: runs that are not counted, and how long it is repeated at most."""

Row = Mapping[str, Any]
"""One figure, with what it belongs to."""


@dataclass(frozen=True)
class Shape:
    """A Llama of random weights."""

    name: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int


LARGE = (
    Shape("Llama-2-7B", 32, 4096, 32, 32, 11008, 32000),
    Shape("Llama-3-8B", 32, 4096, 32, 8, 14336, 128256),
)
SMALL = (Shape("two layers", 2, 64, 4, 2, 128, 320),)


@dataclass(frozen=True)
class Place:
    """device, and the sizes of what runs there. vocabularies, width: of the kernels' cases. slots: of the texts before
    timed forwards. tokens: of the texts that are compared. runs: of each timed function, at most."""

    device: torch.device
    dtype: torch.dtype
    shapes: tuple[Shape, ...]
    vocabularies: tuple[int, ...]
    width: int
    slots: tuple[int, ...]
    tokens: int
    runs: int

    @classmethod
    def on(cls, device: torch.device) -> Place:
        if device.type == "cuda":
            sizes = (LARGE, (32000, 128256), 4096, (256, 2048, 8192), 48, 50)
            return cls(device, torch.bfloat16, *sizes)
        return cls(device, torch.float32, SMALL, (320, 1001), 64, (64, 192), 6, 3)

    @property
    def name(self) -> str:
        return torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"

    @property
    def narrow_heads(self) -> tuple[bool, ...]:
        """Whether exits read a head of 8 bits, which has no form for CPUs: both ways are timed on a GPU."""
        return (False, True) if self.device.type == "cuda" else (False,)

    @property
    def reads_float8(self) -> bool:
        """Whether kernels read a pool of 8-bit floats here."""
        return self.device.type != "cuda" or architecture_of(self.device) >= FLOAT8_ARCHITECTURE

    def captured(self, function: Callable[[], Any]) -> Callable[[], Any]:
        """The function as a CUDA graph; on a CPU itself."""
        if self.device.type != "cuda":
            return function
        with torch.inference_mode():
            return CudaCapture()(function)[0]

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def give_back(self) -> None:
        """The memory of a target that nothing names any more, before the next one takes its share."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def median_us(self, function: Callable[[], Any]) -> float:
        """Of a run, from start to end; the first runs compile and capture. Ends early where LONGEST_S is over."""
        return self.median_of(lambda: self._timed_us(function))

    def median_of(self, measured: Callable[[], float]) -> float:
        """Of what several calls return, but for the first ones."""
        taken: list[float] = []
        end_s = time.perf_counter() + LONGEST_S
        with torch.inference_mode():
            while len(taken) < self.runs + WARM_UPS and (
                len(taken) <= WARM_UPS or time.perf_counter() < end_s
            ):
                taken.append(measured())
        return statistics.median(taken[WARM_UPS:])

    def _timed_us(self, function: Callable[[], Any]) -> float:
        self.wait()
        start_s = time.perf_counter()
        function()
        self.wait()
        return (time.perf_counter() - start_s) * 1e6

    def bytes_per_us(self) -> float:
        """Of reading memory."""
        size = 2 << 30 if self.device.type == "cuda" else 64 << 20
        memory = torch.ones(size // 4, device=self.device)
        return size / self.median_us(memory.sum)
