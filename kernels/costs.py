"""What verify and exit_head cost on a GPU by counting: bytes read, passes, launches, copies, idle ends, and the floor.

A model, no measurement: launches one after the other, and bytes at the speed that reading reaches. It shows a change
that reads or launches more. `edgespec kernels costs` prints it. verify is counted as it runs, in a stream behind the
forward's graph; exit_head within that graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgespec.kernels.variants import PROGRAMS_A_PROCESSOR, VERIFY_BLOCK, VERIFY_BLOCKS, divided, tail_share

LAUNCH_US, GRAPH_LAUNCH_US = 2.5, 1.5
"""From one kernel's end to the next one's in a stream, and in a captured graph: estimates."""

COPY_US = 5.0
"""Of a copy of a few kilobytes between pinned memory and the device: an estimate."""

STREAMED = 0.9
"""Of the data sheet's bandwidth, what a kernel that only reads reaches: an estimate."""

VERIFY_COPIES, VERIFY_OF_TORCH = 2, 1
"""Around verify's launches: its columns go up and its verdicts come down; torch clears what programs count in."""


@dataclass(frozen=True)
class Gpu:
    """bytes_per_us: the data sheet's memory bandwidth."""

    name: str
    processors: int
    bytes_per_us: float

    @property
    def reached_bytes_per_us(self) -> float:
        return STREAMED * self.bytes_per_us


GPUS = (
    Gpu("H100 SXM", 132, 3.35e6),
    Gpu("A100 80 GB", 108, 2.04e6),
    Gpu("L4", 58, 0.30e6),
    Gpu("A10", 72, 0.60e6),
    Gpu("Orin AGX", 16, 0.205e6),
)


@dataclass(frozen=True)
class Cost:
    """launches: torch's too. passes: how often a row of logits is read. idle: the share of the GPU that has no work,
    for want of rows or at the end. floor_us: what must be read, once, at the data sheet's bandwidth."""

    what: str
    launches: int
    passes: int
    read_bytes: int
    idle: float
    floor_us: float
    expected_us: float


def verify_cost(gpu: Gpu, rows: int, vocabulary: int, itemsize: int, top_k: bool, top_p: bool) -> Cost:
    """Where filters are asked for: rounds over float32 scores; the rounds over ids read only equals at the edge."""
    key_rounds, id_rounds = 3 * top_k + 3 * top_p, 2 * top_p
    row_bytes = 4 * rows * vocabulary
    scanned = rows * vocabulary * (itemsize + 4)  # the scores are written
    # Of the passes behind the scan, those over keys and the choice read all scores, from memory at worst.
    read = scanned + (key_rounds + 1) * row_bytes
    launches = 2 + key_rounds + id_rounds + VERIFY_OF_TORCH
    parts = rows * -(-vocabulary // (VERIFY_BLOCK * VERIFY_BLOCKS))
    idle = max(0.0, 1 - parts / gpu.processors)
    waits = launches * LAUNCH_US + VERIFY_COPIES * COPY_US
    expected = waits + read / (gpu.reached_bytes_per_us * (1 - idle))
    filters = " + ".join(["top-k"] * top_k + ["top-p"] * top_p) or "nothing filtered"
    floor = rows * vocabulary * itemsize / gpu.bytes_per_us
    return Cost(f"verify, {filters}", launches, 2 + key_rounds, read, idle, floor, expected)


def exit_cost(gpu: Gpu, rows: int, vocabulary: int, width: int, itemsize: int, head_bits: int) -> Cost:
    """The LM head is read once for all rows. itemsize: of the rows."""
    at_once = PROGRAMS_A_PROCESSOR * gpu.processors
    tile, programs = divided(vocabulary, at_once)
    tail = tail_share(vocabulary, tile, at_once)
    head = head_bytes(vocabulary, width, head_bits)
    read = head + itemsize * width * rows * (2 + programs)
    floor = head / gpu.bytes_per_us
    expected = 3 * GRAPH_LAUNCH_US + head / (gpu.reached_bytes_per_us * (1 - tail))
    return Cost(f"exit_head, {head_bits} bits", 3, 1, read, tail, floor, expected)


def head_bytes(vocabulary: int, width: int, bits: int) -> int:
    """Of an LM head; one of 8 bits has a scale of 4 bytes a token."""
    return vocabulary * (width * bits // 8 + 4 * (bits == 8))


def costs(gpu: Gpu, rows: int, vocabulary: int, width: int, itemsize: int = 2) -> Iterator[Cost]:
    """Of one exit and of every way to verify, for a model of this shape."""
    for head_bits in (8 * itemsize, 8):
        yield exit_cost(gpu, rows, vocabulary, width, itemsize, head_bits)
    for top_k, top_p in ((False, False), (True, False), (False, True), (True, True)):
        yield verify_cost(gpu, rows, vocabulary, itemsize, top_k, top_p)
