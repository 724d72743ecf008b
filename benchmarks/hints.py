"""What hints cost: the time from the end of an exit to an edge that holds the hint, and what exits add to a forward.

    python -m benchmarks.hints                     # the bundled pair on the CPU
    python -m benchmarks.hints --device cuda --target DIR --exits DIR

The delay goes through the mailbox and a connection on this machine: the time from the launch of an exit to the hint in
the edge's hands, less the time from the launch to the exit's end, medians of alternating runs. A forward has eight rows
behind a text of 128 tokens; forwards with hints and without take turns.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import torch

from benchmarks.kernels import on
from benchmarks.results import ROOT as REPOSITORY
from benchmarks.results import Results, options
from edgespec import _native
from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.slots import SlotMap
from edgespec.core.tree import ROOT, DraftTree
from edgespec.kernels.data import CELL_WORDS, Cells, Curves, Trees
from edgespec.kernels.exit_hint import exit_hint
from edgespec.model.target import Target
from edgespec.model.target_engine import ForwardRequest, HintAddress

sys.path.insert(0, str(REPOSITORY / "tests"))
from links import linked

TIMEOUT_S = 10.0
VOCABULARY, WIDTH, LAYER = 2048, 64, 8
"""An exit so small that its own time does not hide what comes behind it."""

TEXT_LENGTH, ROWS = 128, 8


def main() -> int:
    exits = ("auto", "a folder with the target's exits")
    arguments = options(
        "hints", __doc__, {}, device="cpu", target=(None, "a folder; the bundled if none"), exits=exits
    )
    runs, device = 5 if arguments.quick else 200, arguments.device
    results = Results("hints", "Loopback, no TLS.", arguments.json)
    results.add({"what": "a hint at an edge after its exit", "us": hint_delay_us(torch.device(device), runs)})
    plain_ms, hinted_ms = forward_ms(
        Target.load(arguments.target, exits=arguments.exits, device=device), runs
    )
    results.add({"what": "a forward without hints", "ms": plain_ms})
    results.add({"what": "a forward with hints", "ms": hinted_ms})
    return 0


def hint_delay_us(device: torch.device, runs: int = 200) -> float:
    """Microseconds. Raises EdgespecError if a hint does not arrive."""
    words = torch.zeros((2, 1, 1, CELL_WORDS), dtype=torch.int32, pin_memory=device.type == "cuda")
    sequence = torch.zeros(1, dtype=torch.int32, device=device)
    launch = _exit(device, Cells(words, sequence, 0))
    reference = np.array([_native.COMMITTED_BIT | 4], dtype=np.uint32)
    ends: list[float] = []
    arrivals: list[float] = []
    with (
        linked() as (connection, listener, session),
        closing(_native.HintMailbox(listener, words.numpy(), [LAYER], 1)) as mailbox,
    ):
        for number in range(1, 2 * runs + 1):
            sequence.fill_(number)
            _finish(device)
            heard = number % 2 == 0
            mailbox.arm(number, [(session, 0, 4, 0, 0.0, reference)] if heard else [])
            start_s = time.perf_counter()
            launch()
            if not heard:
                _finish(device)
            elif not isinstance(connection.receive(TIMEOUT_S), _native.Hint):
                raise EdgespecError(f"the hint of forward {number} did not arrive.")
            (arrivals if heard else ends).append(time.perf_counter() - start_s)
            mailbox.retire(number)
    return (statistics.median(arrivals) - statistics.median(ends)) * 1e6


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def _exit(device: torch.device, cells: Cells) -> Callable[[], None]:
    """One row's exit, with everything that it needs on the device."""
    weights = [torch.randn(1, WIDTH), torch.ones(WIDTH), torch.randn(VOCABULARY, WIDTH)]
    hidden, norm, head = (part.to(device) for part in weights)
    one = np.zeros(1, np.int32)
    columns = {
        "temperatures": np.zeros(1, np.float32), "seeds": np.zeros(1, np.uint64), "positions": one + 5,
        "trees": Trees(np.array([0, 1], np.int32), one - 1, one), "curve_of": one,
    }  # fmt: skip
    curves = Curves(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.1, 1.0]]), (0.0,)).on(device)
    given = {name: on(value, device) for name, value in columns.items()}
    return lambda: exit_hint(hidden, norm, head, **given, curves=curves, cells=cells)


class Unread:
    """A mailbox that reads nothing: the exits still have to write their hints."""

    def arm(self, sequence: int, watches: Any) -> None: ...

    def retire(self, sequence: int) -> list[int]:
        return []


def forward_ms(target: Target, runs: int = 50) -> tuple[float, float]:
    """Milliseconds of a forward without hints and with them: medians of runs that take turns."""
    if target.hint_cells is not None:
        target.hint_cells.mailbox = Unread()
    text: Sequence[int] = [1 + i % (target.vocabulary_size - 1) for i in range(TEXT_LENGTH)]
    cache, slots = target.open_cache(2 * TEXT_LENGTH), SlotMap(2 * TEXT_LENGTH)
    prompt = slots.plan(text, TEXT_LENGTH - 1, DraftTree(TEXT_LENGTH), [])
    target.forward_batch(
        [ForwardRequest(cache, prompt, np.zeros(0, np.int64), SamplingParams(temperature=0.0), 0)]
    )
    tree = DraftTree(TEXT_LENGTH)
    for node in range(1, ROWS):
        tree.add(node, ROOT if node == 1 else node - 1, 1 + node, 0.8)
    piece = slots.plan(text, TEXT_LENGTH, tree, list(tree))
    address = HintAddress(0, TEXT_LENGTH, 0, 0.0, np.ones(len(piece), np.uint32), lambda count: None)
    plain = ForwardRequest(cache, piece, np.arange(len(piece)), SamplingParams(temperature=0.8, seed=1), 1)
    hinted = ForwardRequest(
        plain.cache, piece, plain.decide, plain.sampling, 1, lambda rows: None, hint_address=address
    )
    taken: tuple[list[float], list[float]] = ([], [])
    for _ in range(runs + 3):
        for part, own in zip((plain, hinted), taken, strict=True):
            start_s = time.perf_counter()
            target.forward_batch([part])
            own.append((time.perf_counter() - start_s) * 1e3)
    cache.release()
    plain_ms, hinted_ms = (statistics.median(own[3:]) for own in taken)  # the first runs capture graphs
    return plain_ms, hinted_ms


if __name__ == "__main__":
    sys.exit(main())
