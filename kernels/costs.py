"""What verify and exit_head cost on a GPU by counting: bytes read, passes, launches, idle ends, and the floor.

A model, no measurement: each launch takes its bytes over the memory's speed, or the least time of a launch. It shows a
change that reads or launches more. `edgespec kernels costs` prints it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edgespec.kernels.variants import PROGRAMS_A_PROCESSOR, VERIFY_BLOCK, VERIFY_BLOCKS, divided, tail_share

LAUNCH_US = 2.5
"""From one kernel's end to the next one's in a stream."""


@dataclass(frozen=True)
class Gpu:
    """bytes_per_us: the data sheet's memory bandwidth."""

    name: str
    processors: int
    bytes_per_us: float


GPUS = (
    Gpu("H100 SXM", 132, 3.35e6),
    Gpu("A100 80 GB", 108, 2.04e6),
    Gpu("L4", 58, 0.30e6),
    Gpu("A10", 72, 0.60e6),
    Gpu("Orin AGX", 16, 0.205e6),
)


@dataclass(frozen=True)
class Cost:
    """passes: how often a row of logits is read. idle: the share of the GPU that has no work, for want of rows or at
    the end. floor_us: what must be read, once, at the memory's speed."""

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
    launches = 2 + key_rounds + id_rounds
    parts = rows * -(-vocabulary // (VERIFY_BLOCK * VERIFY_BLOCKS))
    idle = max(0.0, 1 - parts / gpu.processors)
    expected = launches * LAUNCH_US + read / (gpu.bytes_per_us * (1 - idle))
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
    return Cost(f"exit_head, {head_bits} bits", 3, 1, read, tail, floor, 3 * LAUNCH_US + floor / (1 - tail))


def head_bytes(vocabulary: int, width: int, bits: int) -> int:
    """Of an LM head; one of 8 bits has a scale of 4 bytes a token."""
    return vocabulary * (width * bits // 8 + 4 * (bits == 8))


def costs(gpu: Gpu, rows: int, vocabulary: int, width: int, itemsize: int = 2) -> Iterator[Cost]:
    """Of one exit and of every way to verify, for a model of this shape."""
    for head_bits in (8 * itemsize, 8):
        yield exit_cost(gpu, rows, vocabulary, width, itemsize, head_bits)
    for top_k, top_p in ((False, False), (True, False), (False, True), (True, True)):
        yield verify_cost(gpu, rows, vocabulary, itemsize, top_k, top_p)
