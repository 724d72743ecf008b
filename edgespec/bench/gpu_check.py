"""What a machine with a GPU is asked about the CUDA path: does it say what the CPU says, and how fast?

Each check compares the Triton kernels, the captured forward or the cells of hints with the native backends on the same
numbers, and gives a sentence. Behind `edgespec kernels check` and tests/test_gpu.py. They can be asked of the CPU too,
in Triton's interpreter, which is how they are tested.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgespec.core.errors import EdgespecError
from edgespec.core.params import SamplingParams
from edgespec.core.server_options import ServerOptions
from edgespec.kernels import arguments
from edgespec.kernels.exit_head import exit_head
from edgespec.kernels.exit_hint import CELL_WORDS, Cells, exit_hint
from edgespec.kernels.exit_verdict import Curves, Trees
from edgespec.kernels.verify import Samplings, verify
from edgespec.model.target import Target
from edgespec.model.target_engine import ExitRows, ForwardRequest, HintAddress
from edgespec.verifying.verifier import Verifier, VerifierLimits

NEAR_TIE = {"float32": 1e-3, "float16": 0.05, "bfloat16": 0.3}
"""Margins below which two backends may name different tokens."""

PROMPT = [5, 80, 17, 300, 44, 80, 17, 300, 9]


@dataclass(frozen=True)
class Place:
    """Where kernels run, and in which backend."""

    device: torch.device
    backend: str

    @classmethod
    def gpu(cls) -> Place:
        """Raises EdgespecError where there is none."""
        if not torch.cuda.is_available():
            raise EdgespecError(
                "torch finds no CUDA GPU here: run `edgespec kernels check` on a machine that has one."
            )
        return cls(torch.device("cuda"), "triton")


def exit_heads_agree(place: Place, vocabulary: int = 3001, width: int = 256) -> str:
    """exit_head, of every dtype and some numbers of rows."""
    compared = 0
    for dtype in ("float32", "bfloat16", "float16"):
        for rows in (1, 8, 64):
            hidden, norm, head = _weights(rows, vocabulary, width, dtype)
            columns = _columns(rows)
            wanted = exit_head(hidden, norm, head, **columns, backend="cpu")
            there = (part.to(place.device) for part in (hidden, norm, head))
            got = exit_head(*there, **columns, backend=place.backend)
            tokens = arguments.on_host(got.tokens)
            _require_alike(f"exit_head in {dtype}", tokens, wanted.tokens, wanted.margins, NEAR_TIE[dtype])
            compared += rows
    return f"exit_head names the CPU's tokens in {compared} rows, near-ties apart"


def verdicts_agree(place: Place, vocabulary: int = 3001, rows: int = 24) -> str:
    """verify, greedy and coupled, with every filter."""
    logits = 3 * torch.randn(rows, vocabulary, generator=_random())
    singles = Trees(np.arange(rows + 1), np.full(rows, -1), np.zeros(rows, np.int32))
    positions = np.arange(rows) + 50
    kinds: list[dict[str, Any]] = [
        {},
        {"temperature": 0.8},
        {"temperature": 1.0, "top_k": 40, "top_p": 0.95},
        {"temperature": 1.3, "min_p": 0.02},
    ]
    for kind in kinds:
        samplings = Samplings.same(rows, seed=3, **kind)
        wanted = verify(logits, singles, positions, samplings, backend="cpu")
        got = verify(logits.to(place.device), singles, positions, samplings, backend=place.backend)
        tokens = arguments.on_host(got.tokens)
        _require_alike(
            f"verify with {kind}", tokens, wanted.tokens, wanted.margins[:, 0], NEAR_TIE["float32"]
        )
    return f"verify names the CPU's tokens in {rows * len(kinds)} rows, near-ties apart"


def cells_agree(place: Place) -> str:
    """exit_hint: what a kernel leaves in memory of the host, once the device is done."""
    rows, sessions = 16, 4
    hidden, norm, head = _weights(rows, 40, 64, "float32")
    columns: dict[str, Any] = {
        name: torch.from_numpy(one) for name, one in _columns(rows).items() if name != "seeds"
    }
    columns |= {"seeds": torch.full((rows,), 3), "draft_tokens": torch.full((rows,), -1, dtype=torch.int32)}
    offsets = torch.arange(0, 17, 4, dtype=torch.int32)
    parents = torch.tensor([-1, 0, 0, 1] * sessions, dtype=torch.int32)
    tokens = exit_head(hidden, norm, head, **_columns(rows), backend="cpu").tokens
    drafted = torch.from_numpy(np.repeat(tokens[::4], 4))  # the first node is right
    drafted[2::4] = (drafted[2::4] + 1) % 40
    curves = Curves(torch.tensor([[0.0, 2.0]]), torch.tensor([[0.1, 1.0]]), (0.0,))

    def cells_of(device: torch.device, backend: str) -> NDArray[np.int32]:
        shape = (2, sessions, 1, CELL_WORDS)
        words = torch.zeros(shape, dtype=torch.int32, pin_memory=device.type == "cuda")
        exit_hint(
            *(part.to(device) for part in (hidden, norm, head)),
            **{name: one.to(device) for name, one in columns.items()},
            trees=Trees(offsets.to(device), parents.to(device), drafted.to(device)),
            curves=curves.on(device),
            curve_of=torch.zeros(sessions, dtype=torch.int32, device=device),
            cells=Cells(words, torch.ones(1, dtype=torch.int32, device=device), 0),
            backend=backend,
        )
        if device.type == "cuda":
            torch.cuda.synchronize()
        cells: NDArray[np.int32] = words.numpy()[1, :, 0]
        return cells

    wanted, got = cells_of(torch.device("cpu"), "cpu"), cells_of(place.device, place.backend)
    probability, got_probability = (cells[:, 4].copy().view(np.float32) for cells in (wanted, got))
    if (wanted[:, :4] != got[:, :4]).any() or not np.allclose(probability, got_probability, atol=1e-3):
        raise EdgespecError(f"exit_hint left {got.tolist()} in its cells, not {wanted.tolist()}.")
    return f"exit_hint writes the CPU's hints to memory of the host, paths of {wanted[:, 1].tolist()} nodes"


class Collector:
    """A watcher that reads cells while the device still runs, from a thread of its own."""

    def __init__(self, target: Target) -> None:
        assert target.hint_cells is not None
        self._cells = target.hint_cells.cells
        self._running = threading.Event()
        self._thread = threading.Thread()
        self.early = 0
        """Cells that were there before the last layer had decided."""

    def arm(self, sequence: int, watches: Any) -> None:
        self._running.set()
        self._thread = threading.Thread(target=self._read, args=(sequence,))
        self._thread.start()

    def retire(self, sequence: int) -> list[int]:
        self._running.clear()
        self._thread.join()
        return []

    def _read(self, sequence: int) -> None:
        seen = 0
        while self._running.is_set():
            seen = int((self._cells[sequence % 2, :1, :, 0] == sequence).sum())
        self.early += seen


def texts_agree(on_cpu: Target, target: Target, tokens: int = 48) -> str:
    """Text by captured forwards, with hints left in cells, beside the CPU's; both of float32."""
    assert target.hint_cells is not None and target.runner.graphs is not None
    collector = Collector(target)
    target.hint_cells.mailbox = collector
    for sampling in (SamplingParams(), SamplingParams(temperature=0.8, top_k=50, seed=7)):
        wanted, margins = _text(on_cpu, sampling, tokens)
        got, _ = _text(target, sampling, tokens)
        length = next((i for i, pair in enumerate(zip(got, wanted, strict=True)) if pair[0] != pair[1]), None)
        if length is not None and margins[length] > NEAR_TIE["float32"]:
            raise EdgespecError(
                f"captured forwards say another token than the CPU at {length} of {tokens}, where the margin is "
                f"{margins[length]:.4f}."
            )
    if target.runner.graphs.failed:
        raise EdgespecError("the target's forward could not be captured; the log says why.")
    return f"captured forwards say the CPU's text; {collector.early} hints were there before their verdict"


def all_checks(place: Place) -> Iterator[Callable[[], str]]:
    """Every check of a GPU but the times. Each raises EdgespecError where backends differ."""
    yield lambda: exit_heads_agree(place)
    yield lambda: verdicts_agree(place)
    yield lambda: cells_agree(place)
    yield lambda: texts_agree(
        Target.load(dtype="float32", device="cpu"), Target.load(dtype="float32", device=str(place.device))
    )


def _text(target: Target, sampling: SamplingParams, tokens: int) -> tuple[list[int], list[float]]:
    """What the target says behind PROMPT, filling by itself and looking up in the text; and the margins."""
    verifier = Verifier(
        PROMPT,
        tokens,
        ServerOptions(fill=True, prompt_lookup=True),
        VerifierLimits(target.context_length),
    )
    cache = target.open_cache(verifier.slots.capacity)
    margins: list[float] = []

    def unheard(rows: ExitRows) -> None:
        """Hints go to the cells, where there is a watcher."""

    while verifier.finish is None:
        forward = verifier.plan()
        references = np.ones(len(forward.nodes), np.uint32)
        watch = HintAddress(0, len(verifier.text), 0, 0.0, references, lambda count: None)
        part = ForwardRequest(
            cache, forward.piece, forward.decide, sampling, sampling.seed or 0, unheard, hint_address=watch
        )
        (decisions,) = target.forward_batch([part])
        verdict = verifier.conclude(forward, decisions.tokens.tolist())
        assert verdict is not None
        margins += decisions.margins[verdict.picks].tolist()
    cache.release()
    return verifier.text[len(PROMPT) :], margins


def _require_alike(what: str, got: Any, wanted: Any, margins: Any, near_tie: float) -> None:
    others = np.flatnonzero((got != wanted) & (margins > near_tie))
    if len(others):
        raise EdgespecError(
            f"{what} names other tokens than the CPU in rows {others.tolist()}, no near-ties."
        )


def _weights(rows: int, vocabulary: int, width: int, dtype: str) -> list[torch.Tensor]:
    random = _random()
    shapes = ((rows, width), (width,), (vocabulary, width))
    hidden, norm, head = (torch.randn(shape, generator=random) for shape in shapes)
    return [one.to(getattr(torch, dtype)) for one in (hidden, norm.abs() + 0.5, head / 8)]


def _columns(rows: int) -> dict[str, Any]:
    temperatures = np.where(np.arange(rows) % 2, 0.8, 0.0).astype(np.float32)
    positions = np.arange(rows, dtype=np.int32) + 50
    return {"temperatures": temperatures, "seeds": np.full(rows, 3, np.uint64), "positions": positions}


def _random() -> torch.Generator:
    return torch.Generator().manual_seed(11)
